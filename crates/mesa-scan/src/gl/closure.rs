//! What loading some libraries loads: `DT_NEEDED`, followed to the end.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::loader::{Library, Loader, Paths, Search};
use crate::tree::TreeError;

/// The most libraries that anything loads: GL has about 60.
const MAX_LIBRARIES: usize = 2000;

/// Everything that gets loaded, and what cannot be.
#[derive(Debug, Default)]
pub struct Closure {
    /// By the name under which each was first asked for: a soname, or the path of a driver.
    pub libraries: BTreeMap<String, Library>,
    /// What nothing provides, by its name.
    pub absent: BTreeMap<String, Absent>,
}

/// A library that is asked for and cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// The path of the first library that needs it; `None` for an entry.
    pub needed_by: Option<String>,
    /// Files of that name, with the reason why they do not do.
    pub instead: Vec<String>,
}

struct Wanted {
    name: String,
    needed_by: Option<String>,
    above: Rc<Paths>,
}

impl Closure {
    /// Loads `entries` and all they need, but nothing whose name `leave_out` holds to be somebody else's.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn follow(
        loader: &Loader<'_>,
        entries: impl IntoIterator<Item = String>,
        mut leave_out: impl FnMut(&str) -> Result<bool, TreeError>,
    ) -> Result<Self, TreeError> {
        let mut closure = Closure::default();
        let mut queue: VecDeque<Wanted> = entries
            .into_iter()
            .map(|name| Wanted {
                name,
                needed_by: None,
                above: Rc::default(),
            })
            .collect();
        while let Some(wanted) = queue.pop_front() {
            let name = &wanted.name;
            if closure.knows(name) || leave_out(name)? {
                continue;
            }
            if closure.libraries.len() + closure.absent.len() >= MAX_LIBRARIES {
                return Err(TreeError::invalid(
                    loader.tree().shown(),
                    format_args!(
                        "GL there loads more than {MAX_LIBRARIES} libraries, which no system has"
                    ),
                )
                .with_fix("name another root"));
            }
            let instead = match loader.find(name, &wanted.above)? {
                Search::Found(library) => {
                    let above = loader.paths_of(&library, &wanted.above);
                    queue.extend(library.elf.needed.iter().map(|name| Wanted {
                        name: name.clone(),
                        needed_by: Some(library.path.to_string()),
                        above: Rc::clone(&above),
                    }));
                    closure.libraries.insert(wanted.name, *library);
                    continue;
                }
                Search::Absent(passed) => passed,
                Search::Broken { path, what } => vec![format!("{path}: {what}")],
            };
            let needed_by = wanted.needed_by;
            closure
                .absent
                .insert(wanted.name, Absent { needed_by, instead });
        }
        Ok(closure)
    }

    fn knows(&self, name: &str) -> bool {
        self.libraries.contains_key(name) || self.absent.contains_key(name)
    }
}
