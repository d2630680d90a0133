//! Layers on top of each other, as a runtime unpacks them.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::path::names;
use super::super::{Kind, Lookup, Node, RealPath, Tree, TreeError};
use super::layer::{Change, Layer};
use super::store::brief;
use super::{Content, Image, ReadAhead, Slot};

/// The most bytes of all names of an image: real ones have 20 MB.
const MAX_NAMES: usize = 256 << 20;

impl Image {
    /// An image without layers.
    pub(super) fn empty(shown: String) -> Self {
        Image {
            shown,
            references: Vec::new(),
            layers: Vec::new(),
            slots: BTreeMap::from([(RealPath::root(), made_directory())]),
            names: 0,
        }
    }

    /// Puts a layer on top. What it takes away is taken from the layers below, never from itself.
    pub(super) fn add(
        &mut self,
        layer: Layer,
        read_ahead: &dyn ReadAhead,
    ) -> Result<(), TreeError> {
        let changes = layer.changes(self.layers.len(), read_ahead)?;
        let shown = layer.shown.clone();
        self.layers.push(layer);
        let (removals, additions): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|(_, change)| matches!(change, Change::Remove | Change::Empty));
        for (path, change) in removals {
            if let Some(there) = self.existing(&path)? {
                self.clear(&there);
                if matches!(change, Change::Remove) {
                    self.slots.remove(&there);
                }
            }
        }
        for (path, change) in additions {
            let place = self.place(&shown, &path)?;
            let slot = match change {
                Change::Add(slot) => slot,
                Change::Link(target) => self.linked(&shown, &path, &target)?,
                Change::Remove | Change::Empty => continue,
            };
            let stays = slot.node.kind == Kind::Directory
                && self
                    .slots
                    .get(&place)
                    .is_some_and(|old| old.node.kind == Kind::Directory);
            if !stays {
                self.clear(&place);
            }
            if place != RealPath::root() {
                self.put(&shown, place, slot)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, shown: &str, place: RealPath, slot: Slot) -> Result<(), TreeError> {
        self.names += place.as_str().len();
        if self.names > MAX_NAMES {
            return Err(TreeError::invalid(
                shown,
                "names of more than 256 MiB, which no image has",
            )
            .with_fix("do not use this image"));
        }
        self.slots.insert(place, slot);
        Ok(())
    }

    /// Where a member goes: its directory's links are followed inside the image, and missing directories made. Each name
    /// is looked at once.
    fn place(&mut self, shown: &str, path: &str) -> Result<RealPath, TreeError> {
        let mut here = RealPath::root();
        let mut ahead = names(path).peekable();
        while let Some(name) = ahead.next() {
            let next = here.join(name);
            if ahead.peek().is_none() {
                return Ok(next);
            }
            let through = || {
                TreeError::invalid(
                    shown,
                    format_args!(
                        "{} goes through {}, which is not a directory",
                        brief(path),
                        brief(next.as_str())
                    ),
                )
                .with_fix("save the image again")
            };
            here = match self.slots.get(&next).map(|slot| &slot.node.kind) {
                None => {
                    self.put(shown, next.clone(), made_directory())?;
                    next
                }
                Some(Kind::Directory) => next,
                Some(Kind::File(_) | Kind::Other) => return Err(through()),
                Some(Kind::Link(_)) => {
                    let tree: &dyn Tree = self;
                    match tree.lookup(next.as_str())? {
                        Lookup::Found(entry) if entry.is_directory() => entry.path,
                        _ => return Err(through()),
                    }
                }
            };
        }
        Ok(here)
    }

    /// What a whiteout names: its directory's links are followed, its own are not.
    fn existing(&self, path: &str) -> Result<Option<RealPath>, TreeError> {
        let path = path.trim_matches('/');
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let tree: &dyn Tree = self;
        let Some(directory) = tree.lookup(directory)?.found() else {
            return Ok(None);
        };
        let there = match name {
            "" | "." => directory.path,
            name => directory.path.join(name),
        };
        Ok(self.slots.contains_key(&there).then_some(there))
    }

    fn linked(&self, shown: &str, path: &str, target: &str) -> Result<Slot, TreeError> {
        let (path, named) = (brief(path), brief(target));
        if target.split('/').any(|name| name == "..") {
            return Err(TreeError::invalid(
                shown,
                format_args!("the hard link {path} leads to {named}, out of the image"),
            )
            .with_fix("do not use this image"));
        }
        let slot = self
            .existing(target)?
            .and_then(|target| self.slots.get(&target));
        slot.cloned().ok_or_else(|| {
            TreeError::invalid(
                shown,
                format_args!(
                    "the hard link {path} leads to {named}, which the image does not have"
                ),
            )
            .with_fix("save the image again")
        })
    }

    /// Removes all that is below a directory.
    fn clear(&mut self, directory: &RealPath) {
        let below: Vec<RealPath> = self
            .below(directory)
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            self.slots.remove(&path);
        }
    }

    /// All that is below a directory.
    pub(super) fn below<'a>(
        &'a self,
        directory: &'a RealPath,
    ) -> impl Iterator<Item = (&'a RealPath, &'a Slot)> {
        // The first name that a directory can have sorts right after its slash.
        self.slots
            .range((Bound::Excluded(directory.join("")), Bound::Unbounded))
            .take_while(|(path, _)| path.below(directory).is_some())
    }
}

fn made_directory() -> Slot {
    Slot {
        node: Node::made_directory(),
        content: Content::None,
    }
}
