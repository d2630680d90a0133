//! The policy in a real cluster, from `mesa-scan`'s output to QEMU's display in a launcher pod.

// Clippy allows these in test functions, but not in what they share.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod conflicts;
mod deliveries;
mod launcher;
#[path = "../../../display/tests/suite/machine.rs"]
#[expect(dead_code, reason = "tests/display needs more roots")]
mod machine;
mod node;
mod outages;
mod pod;
mod registry;
mod tools;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use cluster_tests::hosts::{self, Hosts};
use libtest_mimic::{Arguments, Trial};

use crate::world::World;

type Case = fn(&World);

/// All cases. They change what is installed in the one cluster, and so come one after the other.
const CASES: [(&str, Case); 19] = [
    (
        "deliveries::a_flat_image_gives_a_restricted_pod_its_display",
        deliveries::flat,
    ),
    (
        "deliveries::a_staged_directory_gives_a_pod_its_display",
        deliveries::staged,
    ),
    (
        "node::the_image_puts_itself_on_the_node_and_goes_again",
        node::life,
    ),
    (
        "deliveries::files_that_the_node_lacks_are_named_in_an_event",
        deliveries::host_paths,
    ),
    (
        "deliveries::an_image_that_is_nowhere_is_named_in_an_event",
        deliveries::no_image,
    ),
    (
        "deliveries::a_dry_run_shows_the_mounts_and_creates_nothing",
        deliveries::dry_run,
    ),
    (
        "tools::preflight_says_what_the_cluster_lacks",
        tools::preflight,
    ),
    (
        "tools::the_policy_is_deployed_verified_and_gone_again",
        tools::life,
    ),
    (
        "conflicts::a_pod_without_the_label_is_not_sent",
        conflicts::without_label,
    ),
    (
        "conflicts::a_pod_that_opted_out_stays_as_it_is",
        conflicts::opted_out,
    ),
    (
        "conflicts::a_conflict_is_rejected_with_its_reason",
        conflicts::rejected,
    ),
    (
        "conflicts::a_second_pass_changes_nothing",
        conflicts::second_pass,
    ),
    (
        "launcher::a_vm_starts_and_ends_with_its_display",
        launcher::starts,
    ),
    (
        "launcher::a_hook_that_died_is_found_again",
        launcher::restarted_hook,
    ),
    (
        "launcher::a_plugin_of_somebody_is_survived_by_one_of_ours",
        launcher::plugins,
    ),
    (
        "launcher::a_vm_migrates_with_its_display_or_stays",
        launcher::migration,
    ),
    (
        "outages::a_policy_server_that_is_away_refuses_or_lets_pass_as_the_policy_says",
        outages::no_policy_server,
    ),
    (
        "outages::an_api_server_that_drops_image_volumes_starts_no_vm_without_a_display",
        outages::gate_off,
    ),
    // The last: a kubelet that has pulled an image asks the registry again before it takes the same one, that was loaded by hand,
    // under another name.
    (
        "registry::module_and_image_come_from_a_registry",
        registry::push_pull_and_run,
    ),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let hosts = match Hosts::find() {
        Ok(hosts) => hosts,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let Some(directory) = hosts::inside() else {
        // What comes from the network.
        world::fetch();
        let status = hosts::run_inside().unwrap();
        return ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1));
    };
    hosts::set_up(&directory).unwrap();
    let world = Arc::new(World::new(hosts, &directory));
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&world)));
    world.cluster.stop();
    conclusion.exit_code()
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    let trial = |(name, case): (&str, Case)| {
        let world = world.cloned();
        Trial::test(name, move || {
            world.iter().for_each(|world| case(world));
            Ok(())
        })
    };
    CASES.into_iter().map(trial).collect()
}
