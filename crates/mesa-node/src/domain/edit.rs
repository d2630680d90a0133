//! The text that a domain lacks, and where it goes.

use std::ops::Range;

use quick_xml::escape::escape;

use super::document::{Document, Element};
use super::{MODULE_DIR, QEMU_NAMESPACE};

/// A part of the text that is replaced by another; an empty part is where something is inserted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edit {
    at: Range<usize>,
    text: String,
}

/// The text after all edits, which do not overlap, behind what stands before it.
pub(super) fn apply(before: &[u8], text: &str, mut edits: Vec<Edit>) -> Vec<u8> {
    edits.sort_by_key(|edit| edit.at.start);
    let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut out = Vec::with_capacity(before.len() + text.len() + added);
    out.extend_from_slice(before);
    let mut done = 0;
    for edit in edits {
        out.extend_from_slice(text.get(done..edit.at.start).unwrap_or_default().as_bytes());
        out.extend_from_slice(edit.text.as_bytes());
        done = edit.at.end;
    }
    out.extend_from_slice(text.get(done..).unwrap_or_default().as_bytes());
    out
}

/// Replaces what is there.
pub(super) fn replace(span: &Range<usize>, text: &str) -> Edit {
    Edit {
        at: span.clone(),
        text: text.to_owned(),
    }
}

/// Makes something the last child of an element.
pub(super) fn append(element: &Element, child: &str) -> Edit {
    match element.end_tag {
        Some(at) => Edit {
            at: at..at,
            text: child.to_owned(),
        },
        // <element/>: its last two characters make room.
        None => Edit {
            at: element.start_tag.end.saturating_sub(2)..element.start_tag.end,
            text: format!(">{child}</{}>", element.name),
        },
    }
}

/// `<gl>` with a render node.
pub(super) fn gl(render_node: &str) -> String {
    format!("<gl rendernode='{}'/>", escape(render_node))
}

/// A graphics device around its `<gl>`.
pub(super) fn graphics(kind: &str, gl: &str) -> String {
    format!("<graphics type='{kind}'>{gl}</graphics>")
}

/// The directory of QEMU's modules in the first section of options for QEMU, or in a new one.
pub(super) fn module_dir(document: &Document, directory: &str) -> Edit {
    if let Some(section) = &document.qemu_section {
        // Whatever prefix the section's own name has is valid in it.
        let prefix = section
            .name
            .split_once(':')
            .map_or("", |(prefix, _)| prefix);
        return append(section, &env(prefix, directory));
    }
    let (prefix, declaration) = match &document.qemu_prefix {
        Some(prefix) => (&**prefix, String::new()),
        None => ("qemu", format!(" xmlns:qemu='{QEMU_NAMESPACE}'")),
    };
    let env = env(prefix, directory);
    let section = format!("<{prefix}:commandline{declaration}>{env}</{prefix}:commandline>");
    append(&document.root, &section)
}

fn env(prefix: &str, directory: &str) -> String {
    let colon = if prefix.is_empty() { "" } else { ":" };
    format!(
        "<{prefix}{colon}env name='{MODULE_DIR}' value='{}'/>",
        escape(directory)
    )
}
