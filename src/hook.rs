//! The hook beside the compute container: a native sidecar that speaks KubeVirt's hook protocol and gives the libvirt domain
//! its GL display.
//!
//! KubeVirt checks its gate `Sidecar` where it admits a VMI, not in the pod. In the pod there is a number in the command of
//! virt-launcher, which waits for as many sockets. It is a *native* sidecar because a plain container keeps the pod alive
//! where virt-launcher ends before it has called the hook.

use std::borrow::Cow;

use crate::json::{list, object, quoted};
use crate::path::CleanPath;
use crate::pod::{Container, Malformed, key};
use crate::settings::{Display, Mount, Volume};

/// The sidecar's name.
pub const CONTAINER: &str = "mesa-injector-hook";
/// Our volume for the sockets of hooks, where the pod has none.
pub const SOCKETS_VOLUME: &str = "mesa-injector-hooks";
/// Where virt-launcher looks for the sockets of hooks, in a directory each (KubeVirt 1.6 and newer).
pub const SOCKETS: &str = "/var/run/kubevirt-hooks";
/// Where virt-launcher looks for the sockets of KubeVirt's Plugins.
const PLUGIN_SOCKETS: &str = "/var/run/kubevirt-plugin";
/// The part of the volume of sockets that is the hook's own.
const OWN_SOCKETS: &str = "mesa-injector";
/// The hook's program, which lies in a volume.
pub const PROGRAM: &str = "mesa-node";
/// Where the sidecar has that volume.
const DIRECTORY: &str = "/mesa-injector";
/// The render node of whoever renders with the processor.
pub const NO_RENDER_NODE: &str = "/dev/null";

/// The flag of virt-launcher that says for how many hooks it waits. Of several the last one counts.
const FLAG: &str = "--hook-sidecars";

/// Whether a mount path is the hook's own, or in the way of one.
#[must_use]
pub fn takes(path: &CleanPath<'_>) -> bool {
    [DIRECTORY, SOCKETS, PLUGIN_SOCKETS].into_iter().any(|own| {
        let own = CleanPath::new(own);
        *path == own || path.is_below(&own) || own.is_below(path)
    })
}

/// How many hooks a container waits for, and where it says so.
#[derive(Debug)]
pub struct Flag {
    /// Which of the containers.
    pub container: usize,
    /// `command` or `args`.
    pub list: &'static str,
    /// How many.
    pub hooks: u32,
}

impl Flag {
    /// That of the first container that has one; nothing where none has, or the last one cannot be read.
    ///
    /// # Errors
    /// A command cannot be read.
    pub fn among(containers: &[Container<'_>]) -> Result<Option<Self>, Malformed> {
        for (index, container) in containers.iter().enumerate() {
            // The arguments come last.
            for list in [key::ARGS, key::COMMAND] {
                let words = container.words(list)?;
                if let Some(hooks) = last(&words) {
                    return Ok(hooks.map(|hooks| Flag {
                        container: index,
                        list,
                        hooks,
                    }));
                }
            }
        }
        Ok(None)
    }

    /// The words that raise it by one, as JSON.
    #[must_use]
    pub fn raised(&self) -> [String; 2] {
        [FLAG.to_owned(), (self.hooks + 1).to_string()].map(|word| quoted(&word))
    }
}

/// The number of the last flag; `Some(None)` where that is no number that can be raised.
fn last(words: &[Cow<'_, str>]) -> Option<Option<u32>> {
    let at = words
        .iter()
        .rposition(|word| value_in(word).is_some() || word == FLAG)?;
    let word = words.get(at)?;
    let value = value_in(word).or(words.get(at + 1).map(|next| &**next));
    let number = value.and_then(|value| value.parse().ok());
    Some(number.filter(|number| *number < u32::MAX))
}

/// The value in `--hook-sidecars=1`.
fn value_in(word: &str) -> Option<&str> {
    word.strip_prefix(FLAG)?.strip_prefix('=')
}

/// The sidecar that is to be, for one pod.
#[derive(Debug)]
pub struct Sidecar<'a> {
    /// What the domain gets.
    pub display: &'a Display,
    /// The volume with the program and QEMU's modules.
    pub volume: &'a Volume,
    /// The container that runs virt-launcher, whose image the sidecar runs in.
    pub compute: &'a Container<'a>,
    /// The volume of sockets, and which part of it.
    pub sockets: (String, String),
    /// The volume of the sockets of Plugins, and which part of it, where the pod has one.
    pub plugin_sockets: Option<(String, String)>,
}

impl<'a> Sidecar<'a> {
    /// The sidecar for a pod: its sockets are where the compute container has those of other hooks.
    ///
    /// # Errors
    /// The mounts of the compute container cannot be read.
    pub fn beside(
        compute: &'a Container<'a>,
        display: &'a Display,
        volume: &'a Volume,
    ) -> Result<Self, Malformed> {
        let own = volume_at(compute, SOCKETS, OWN_SOCKETS)?;
        let plugin_sockets = match &display.plugin {
            Some(plugin) => volume_at(compute, PLUGIN_SOCKETS, plugin)?,
            None => None,
        };
        Ok(Sidecar {
            display,
            volume,
            compute,
            sockets: own.unwrap_or_else(|| (SOCKETS_VOLUME.to_owned(), OWN_SOCKETS.to_owned())),
            plugin_sockets,
        })
    }

    /// What the sidecar runs, as JSON.
    #[must_use]
    pub fn command(&self) -> String {
        let Display {
            render_node,
            always,
            ..
        } = self.display;
        let program = format!("{DIRECTORY}/{PROGRAM}");
        let mut words = vec![&*program, "hook", "--render-node", render_node];
        let modules = self.volume.mounts.first();
        if let Some(Mount { path, .. }) = modules {
            words.extend(["--module-dir", path]);
        }
        if *always {
            words.push("--always");
        }
        let socket = self.plugin_directory().map(|path| path + "/hook.sock");
        if let Some(socket) = &socket {
            words.extend(["--plugin-socket", socket]);
        }
        list(&words.into_iter().map(quoted).collect::<Vec<_>>())
    }

    /// Where the sidecar has its own sockets of a Plugin.
    fn plugin_directory(&self) -> Option<String> {
        self.plugin_sockets.as_ref()?;
        let plugin = self.display.plugin.as_ref()?;
        Some(format!("{PLUGIN_SOCKETS}/{plugin}"))
    }

    /// The sidecar as a pod has it. Requests that are limits keep a Guaranteed pod Guaranteed; they are what `KubeVirt`
    /// asks for its own sidecars.
    #[must_use]
    pub fn container(&self) -> String {
        let part = self.volume.mounts.first();
        let part = part.and_then(|mount| mount.sub_path.as_deref());
        let mut mounts = vec![
            mount(&self.volume.name, DIRECTORY, part, true),
            mount(&self.sockets.0, SOCKETS, Some(&self.sockets.1), false),
        ];
        if let (Some((volume, part)), Some(path)) = (&self.plugin_sockets, self.plugin_directory())
        {
            mounts.push(mount(volume, &path, Some(part), false));
        }
        let pulled = self.compute.image_pull_policy();
        [
            r#"{"name":"#,
            &quoted(CONTAINER),
            r#","image":"#,
            &quoted(&self.compute.image()),
            pulled.map_or("", |_| r#","imagePullPolicy":"#),
            pulled.unwrap_or_default(),
            r#","command":"#,
            &self.command(),
            r#","restartPolicy":"Always""#,
            r#","resources":{"limits":{"cpu":"200m","memory":"64M"},"requests":{"cpu":"200m","memory":"64M"}}"#,
            r#","securityContext":{"runAsUser":107,"runAsGroup":107,"runAsNonRoot":true"#,
            r#","allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true"#,
            r#","capabilities":{"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"}}"#,
            r#","volumeMounts":"#,
            &list(&mounts),
            "}",
        ]
        .concat()
    }
}

/// The volume that a container has at a path, and in it the part for `name`.
fn volume_at(
    container: &Container<'_>,
    path: &str,
    name: &str,
) -> Result<Option<(String, String)>, Malformed> {
    let path = CleanPath::new(path);
    let mounts = container.mounts()?.into_iter();
    let mut there = mounts.filter(|mount| mount.path == path);
    Ok(there.next().map(|mount| {
        let part = mount.sub_path.trim_start_matches('/');
        let part = match part {
            "" => name.to_owned(),
            part => format!("{part}/{name}"),
        };
        (mount.volume.into_owned(), part)
    }))
}

/// Our volume for the sockets of hooks, as a pod has it.
#[must_use]
pub fn sockets_volume() -> String {
    object(&[
        (key::NAME, quoted(SOCKETS_VOLUME)),
        (key::EMPTY_DIR, object(&[])),
    ])
}

/// Our volume of sockets, as the compute container has it.
#[must_use]
pub fn sockets_mount() -> String {
    mount(SOCKETS_VOLUME, SOCKETS, None, false)
}

fn mount(volume: &str, path: &str, part: Option<&str>, read_only: bool) -> String {
    let mut members = vec![(key::NAME, quoted(volume)), (key::MOUNT_PATH, quoted(path))];
    if read_only {
        members.push((key::READ_ONLY, "true".to_owned()));
    }
    members.extend(part.map(|part| (key::SUB_PATH, quoted(part))));
    object(&members)
}
