//! What a scan costs: it reads what GL is made of, however much else a root holds.

use std::cell::Cell;
use std::path::Path;

use mesa_scan::gl::GlFiles;
use mesa_scan::loader::Arch;
use mesa_scan::loader::Loader;
use mesa_scan::tree::{Directory, Node, ReadSeek, RealPath, Tree, TreeError};

use crate::fixture::node;

/// A tree that counts what is asked of it.
struct Counting {
    inner: Directory,
    asked: Cell<usize>,
}

impl Counting {
    fn of(path: &Path) -> Self {
        Counting {
            inner: Directory::open(path).unwrap(),
            asked: Cell::new(0),
        }
    }

    fn count(&self) -> &Directory {
        self.asked.set(self.asked.get() + 1);
        &self.inner
    }
}

impl Tree for Counting {
    fn shown(&self) -> String {
        self.inner.shown()
    }

    fn node(&self, path: &RealPath) -> Result<Option<Node>, TreeError> {
        self.count().node(path)
    }

    fn list(&self, path: &RealPath) -> Result<Vec<String>, TreeError> {
        self.count().list(path)
    }

    fn open(&self, path: &RealPath) -> Result<Box<dyn ReadSeek + '_>, TreeError> {
        self.count().open(path)
    }
}

fn cost(path: &Path) -> usize {
    let tree = Counting::of(path);
    let loader = Loader::of(&tree).unwrap();
    let set = GlFiles::work_out(&loader, None).unwrap();
    assert!(set.passed_over.is_empty() && set.absent.is_empty() && set.irregular.is_empty());
    tree.asked.get()
}

#[test]
fn a_scan_asks_no_more_of_a_root_that_holds_more() {
    let node = node(Arch::X86_64, true);
    let small = cost(node.path());
    for number in 0..2000 {
        node.file(
            &format!("/usr/lib/x86_64-linux-gnu/libother{number}.so.1"),
            "",
        );
        node.file(&format!("/usr/share/doc/{number}/readme"), "");
    }
    assert_eq!(cost(node.path()), small);
}
