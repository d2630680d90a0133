//! The display in libvirt's XML: what a domain needs, what it has, and the text that it lacks.
//!
//! virt-launcher calls a hook at least twice for one start, and in between the domain goes through `KubeVirt`'s own types,
//! which lose what they do not know: the `<gl>` of a graphics device, and `<qemu:commandline>`. So nothing here takes a rest for
//! the whole: each part is looked for and written anew when it is gone.
//!
//! What is not ours stays as it is, byte for byte. Where somebody else has chosen a display, that is left alone.

mod document;
mod edit;

use std::fmt;

use document::{Document, Gl, Graphics, excerpt};
use edit::Edit;
use manifests::printable;

/// The namespace of libvirt's options for QEMU.
pub const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";
/// Where QEMU looks for its modules before it looks into its own directory.
pub const MODULE_DIR: &str = "QEMU_MODULE_DIR";
/// The graphics device that is a GL display without a window.
const EGL_HEADLESS: &str = "egl-headless";

/// What a domain is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    render_node: String,
    module_dir: Option<String>,
    always: bool,
}

/// Why a domain cannot have what is asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WantedError {
    /// libvirt and QEMU take absolute paths alone.
    #[error("{:?} is not an absolute path", printable(.0))]
    NotAbsolute(String),
    /// A character that XML has no way to write, or that a reader of XML replaces.
    #[error("{:?} has a control character, which a domain cannot hold", printable(.0))]
    Control(String),
}

impl Wanted {
    /// A display on a render node, with QEMU's modules from a directory, for each domain or only for those with a device
    /// that needs one.
    ///
    /// # Errors
    /// A path that a domain cannot hold.
    pub fn new(
        render_node: String,
        module_dir: Option<String>,
        always: bool,
    ) -> Result<Self, WantedError> {
        for path in module_dir.iter().chain([&render_node]) {
            if !path.starts_with('/') {
                return Err(WantedError::NotAbsolute(path.clone()));
            }
            if path
                .chars()
                .any(|it| it.is_control() || matches!(it, '\u{fffe}' | '\u{ffff}'))
            {
                return Err(WantedError::Control(path.clone()));
            }
        }
        Ok(Wanted {
            render_node,
            module_dir,
            always,
        })
    }
}

/// What became of a domain.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It lacked something.
    Changed(Changed),
    /// It is as it was.
    Unchanged(Reason),
}

/// A domain that lacked something.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    /// The domain as it is to be.
    pub xml: Vec<u8>,
    /// What was written.
    pub written: Vec<Written>,
    /// What somebody else has decided otherwise.
    pub left_alone: Vec<LeftAlone>,
}

/// Why a domain is as it was.
#[derive(Debug, PartialEq, Eq)]
pub enum Reason {
    /// No device needs a GL display.
    NotNeeded,
    /// It has all that it needs, with what somebody else has decided otherwise.
    Complete(Vec<LeftAlone>),
    /// Somebody else has chosen a display.
    OwnDisplay(String),
}

/// What was written into a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The graphics device with its render node.
    Graphics,
    /// The render node of a graphics device that was there without.
    RenderNode,
    /// The directory of QEMU's modules.
    ModuleDir,
}

/// What somebody else has decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftAlone {
    /// The render node.
    RenderNode(String),
    /// The directory of QEMU's modules.
    ModuleDir(String),
    /// The number of GL displays.
    Graphics(usize),
}

/// Why a domain is not given a display. It reaches the condition of the VMI: a person reads it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DomainError {
    /// No domain.
    #[error("the domain is empty")]
    Empty,
    /// Bytes that are no text.
    #[error("the domain is not UTF-8: byte {0} is not")]
    Encoding(usize),
    /// An XML declaration that names another encoding.
    #[error("the domain says that it is written in {0}, and only UTF-8 is read")]
    OtherEncoding(String),
    /// Text that is no XML.
    #[error("the domain is not well-formed XML: {what}, at line {line}, column {column}")]
    Malformed {
        /// What is wrong.
        what: String,
        /// Where, counted from 1.
        line: usize,
        /// Where in the line, counted from 1.
        column: usize,
    },
    /// Entities, which nobody needs here and which can be of any size.
    #[error("the domain has a DOCTYPE, which is not read")]
    Doctype,
    /// Deeper than libvirt reads.
    #[error(
        "the domain has elements more than {} deep, which libvirt does not read",
        document::MAX_DEPTH
    )]
    Depth,
    /// Another document.
    #[error("this is no libvirt domain: its outermost element is {0}")]
    Root(String),
    /// QEMU ends when it is to show such a console over VNC, whatever its render node is.
    #[error(
        "the VM has no video device, so VNC would show the console of its vGPU first, and there QEMU ends: give the VM a \
         video device, as KubeVirt does by default, or turn the display of the vGPU off (virtualGPUOptions.display.enabled: \
         false); a vGPU whose display needs no OpenGL needs no mesa-injector"
    )]
    FirstConsole,
    /// None, or several.
    #[error("the domain has {0} elements <devices>, and must have one")]
    Devices(usize),
}

/// The domain with the display that is wanted.
///
/// # Errors
/// What this is instead of a libvirt domain.
///
/// ```
/// use mesa_node::domain::{Outcome, Wanted, with_display};
///
/// let wanted = Wanted::new("/dev/null".to_owned(), None, true).unwrap();
/// let Ok(Outcome::Changed(changed)) = with_display(b"<domain><devices></devices></domain>", &wanted) else { panic!() };
/// assert_eq!(
///     String::from_utf8(changed.xml).unwrap(),
///     "<domain><devices><graphics type='egl-headless'><gl rendernode='/dev/null'/></graphics></devices></domain>",
/// );
/// ```
pub fn with_display(xml: &[u8], wanted: &Wanted) -> Result<Outcome, DomainError> {
    let (document, text) = document::read(xml)?;
    if !wanted.always && !document.needs_display {
        return Ok(Outcome::Unchanged(Reason::NotNeeded));
    }
    if let Some(own) = document.own_display {
        return Ok(Outcome::Unchanged(Reason::OwnDisplay(own)));
    }
    if document.shows_it_first {
        return Err(DomainError::FirstConsole);
    }
    let mut plan = Plan::default();
    plan.graphics(&document, wanted);
    plan.module_dir(&document, wanted);
    let (mark, _) = xml.split_at(xml.len() - text.len());
    Ok(plan.outcome(mark, text))
}

/// What is to be written, and what is not.
#[derive(Default)]
struct Plan {
    edits: Vec<Edit>,
    written: Vec<Written>,
    left_alone: Vec<LeftAlone>,
}

impl Plan {
    fn graphics(&mut self, document: &Document, wanted: &Wanted) {
        let gl = edit::gl(&wanted.render_node);
        match document.displays.as_slice() {
            [] => self.write(
                Written::Graphics,
                edit::append(&document.devices, &edit::graphics(EGL_HEADLESS, &gl)),
            ),
            [one] => self.render_node(one, &gl, wanted),
            // libvirt refuses them, and which of them is right nobody here can tell.
            several => self.left_alone.push(LeftAlone::Graphics(several.len())),
        }
    }

    /// `KubeVirt`'s own types lose `<gl>`, and libvirt then looks for a render node by itself, in vain.
    fn render_node(&mut self, graphics: &Graphics, gl: &str, wanted: &Wanted) {
        match &graphics.gl {
            None => self.write(Written::RenderNode, edit::append(&graphics.element, gl)),
            Some(Gl {
                span,
                render_node: None,
            }) => self.write(Written::RenderNode, edit::replace(span, gl)),
            Some(Gl {
                render_node: Some(node),
                ..
            }) if *node != wanted.render_node => {
                self.left_alone.push(LeftAlone::RenderNode(node.clone()));
            }
            Some(_) => {}
        }
    }

    /// Somebody else's directory may well have the modules, and says where it is when it has not: the display is written
    /// all the same.
    fn module_dir(&mut self, document: &Document, wanted: &Wanted) {
        let Some(wanted) = &wanted.module_dir else {
            return;
        };
        if let Some(other) = document.module_dirs.iter().find(|it| *it != wanted) {
            self.left_alone.push(LeftAlone::ModuleDir(other.clone()));
        } else if document.module_dirs.is_empty() {
            self.write(Written::ModuleDir, edit::module_dir(document, wanted));
        }
    }

    fn write(&mut self, what: Written, edit: Edit) {
        self.written.push(what);
        self.edits.push(edit);
    }

    /// The mark stands before the text, and no offset counts it.
    fn outcome(self, mark: &[u8], text: &str) -> Outcome {
        if self.edits.is_empty() {
            return Outcome::Unchanged(Reason::Complete(self.left_alone));
        }
        Outcome::Changed(Changed {
            xml: edit::apply(mark, text, self.edits),
            written: self.written,
            left_alone: self.left_alone,
        })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Written::Graphics => "a GL display",
            Written::RenderNode => "the render node of the GL display",
            Written::ModuleDir => MODULE_DIR,
        })
    }
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftAlone::RenderNode(node) => {
                write!(
                    formatter,
                    "the GL display has somebody else's render node {}",
                    excerpt(node)
                )
            }
            LeftAlone::ModuleDir(directory) => {
                write!(
                    formatter,
                    "somebody else has set {MODULE_DIR} to {}",
                    excerpt(directory)
                )
            }
            LeftAlone::Graphics(number) => {
                write!(
                    formatter,
                    "there are {number} GL displays, and libvirt takes one"
                )
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotNeeded => formatter.write_str("no device of the VM has display='on'"),
            Reason::Complete(left_alone) if left_alone.is_empty() => {
                formatter.write_str("the GL display is there")
            }
            Reason::Complete(left_alone) => formatter.write_str(&listed(left_alone, "; ")),
            Reason::OwnDisplay(what) => {
                write!(formatter, "somebody else has chosen a display: {what}")
            }
        }
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "added {}", listed(&self.written, " and "))?;
        match self.left_alone.as_slice() {
            [] => Ok(()),
            left_alone => write!(formatter, "; {}", listed(left_alone, "; ")),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Changed(changed) => changed.fmt(formatter),
            Outcome::Unchanged(reason) => write!(formatter, "unchanged: {reason}"),
        }
    }
}

fn listed<T: ToString>(items: &[T], separator: &str) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(separator)
}
