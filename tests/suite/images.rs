//! `images`: the sources for a flat image, for each launcher that KubeVirt builds.

use crate::common::{read_json, repository};

/// QEMU loads modules of its own build only. The builds in KubeVirt's images, where their package lists are at hand.
#[test]
fn the_containerfiles_name_the_builds_of_qemu_that_kubevirts_launchers_have() {
    let packages = "../shared/launcher-packages.json";
    if !repository(packages).is_file() {
        println!("skipped: no {packages} beside this repository");
        return;
    }
    let packages = read_json(repository(packages));
    for (stream, file) in [("cs9", "el9"), ("cs10", "el10")] {
        let image = &packages["images"][format!("launcherbase_x86_64_{stream}")];
        let names = image.as_array().unwrap().iter();
        let mut names = names.filter_map(|name| name.as_str()?.strip_prefix("qemu-kvm-core-"));
        let (_, build) = names.next().unwrap().split_once(':').unwrap();
        let build = build.strip_suffix(".x86_64").unwrap();
        let file = format!("images/{file}.Containerfile");
        let text = std::fs::read_to_string(repository(&file)).unwrap();
        assert!(
            text.contains(&format!("ARG QEMU={build}\n")),
            "{file}: {build}"
        );
        assert!(
            text.contains(&format!("launcherbase_x86_64_{stream})")),
            "{file}"
        );
    }
}
