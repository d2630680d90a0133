//! What a mount hides of the image.

use super::finding::{Cause, Finding};
use crate::loader::{Loader, Paths, Search, glibc};
use crate::tree::{Kind, Overlay, RealPath, Tree, TreeError};

/// How many names a sentence lists.
const SHOWN: usize = 3;

/// A mount that is in place: whether it hides something of the image, in the file tree or from the loader.
///
/// # Errors
/// Where node or image cannot be read.
pub(super) fn findings(
    image: &Loader<'_>,
    container: &Loader<'_>,
    overlay: &Overlay<'_>,
    place: &RealPath,
) -> Result<Vec<Finding>, TreeError> {
    let mut found: Vec<Finding> = hidden_files(image.tree(), place)?.into_iter().collect();
    for name in libraries_at(overlay, place)? {
        if glibc::is_family(&name) {
            found.push(Finding::fatal(
                Cause::Glibc,
                format!("{place} brings {name} of the node's glibc into the container"),
                "leave it out: the image's programs and its glibc are of one build",
            ));
            continue;
        }
        let Search::Found(own) = image.find(&name, &Paths::default())? else {
            continue;
        };
        // What the mount lies on was said above.
        if own.path == place.clone() || own.entry.path == *place {
            continue;
        }
        if let Search::Found(taken) = container.find(&name, &Paths::default())?
            && overlay.mount_of(&taken.entry.path).is_some()
        {
            found.push(Finding::fatal(
                Cause::Covered,
                format!("{} takes the place of the image's {}", taken.path, own.path),
                "leave it out: the image's programs are built against their own",
            ));
        }
    }
    Ok(found)
}

fn hidden_files(image: &dyn Tree, place: &RealPath) -> Result<Option<Finding>, TreeError> {
    let Some(node) = image.node(place)? else {
        return Ok(None);
    };
    let what = if node.kind == Kind::Directory {
        let names = image.list(place)?;
        if names.is_empty() {
            return Ok(None);
        }
        let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
        let more = match names.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "a mount covers {place} of the image, with {}{more}",
            shown.join(", ")
        )
    } else {
        format!("a mount covers {place} of the image")
    };
    Ok(Some(Finding::fatal(
        Cause::Covered,
        what,
        "leave it out, or mount at a path that the image does not have",
    )))
}

/// The names of the libraries that a mount brings.
fn libraries_at(overlay: &Overlay<'_>, place: &RealPath) -> Result<Vec<String>, TreeError> {
    let names = match overlay.node(place)? {
        Some(node) if node.kind == Kind::Directory => overlay.list(place)?,
        _ => vec![place.name().to_owned()],
    };
    Ok(names
        .into_iter()
        .filter(|name| name.contains(".so"))
        .collect())
}
