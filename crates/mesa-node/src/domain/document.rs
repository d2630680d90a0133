//! What is in a domain's XML, and where.
//!
//! The text is read once, as a stream; only the few elements that matter are kept, by their offsets. Elements are known by
//! their place and their namespace, whatever prefix they are written with. Text that libvirt would refuse is refused here
//! too, as far as a stream shows it: nothing is written into what cannot be understood.

use std::ops::Range;

use manifests::printable;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::name::{Namespace, PrefixDeclaration, ResolveResult};
use quick_xml::reader::NsReader;

use super::{DomainError, EGL_HEADLESS, MODULE_DIR, QEMU_NAMESPACE};

/// How deep libxml2 reads elements in elements.
pub(super) const MAX_DEPTH: usize = 256;

/// What matters in a domain.
#[derive(Debug)]
pub(super) struct Document {
    /// `<domain>`.
    pub(super) root: Element,
    /// Its `<devices>`.
    pub(super) devices: Element,
    /// Whether a device shows a display of its own.
    pub(super) needs_display: bool,
    /// The GL displays without a window.
    pub(super) displays: Vec<Graphics>,
    /// The GL display that somebody else has chosen.
    pub(super) own_display: Option<String>,
    /// The first section of options for QEMU.
    pub(super) qemu_section: Option<Element>,
    /// The prefix of such sections, where the root declares one.
    pub(super) qemu_prefix: Option<String>,
    /// The directories of QEMU's modules.
    pub(super) module_dirs: Vec<String>,
}

/// Where an element is.
#[derive(Debug)]
pub(super) struct Element {
    /// Its name as it is written, with its prefix.
    pub(super) name: String,
    /// From `<` to `>`.
    pub(super) start_tag: Range<usize>,
    /// Where its end tag begins, for those that have one.
    pub(super) end_tag: Option<usize>,
}

/// A graphics device without a window.
#[derive(Debug)]
pub(super) struct Graphics {
    /// Where it is.
    pub(super) element: Element,
    /// Its options for GL.
    pub(super) gl: Option<Gl>,
}

/// The options for GL of a graphics device.
#[derive(Debug)]
pub(super) struct Gl {
    /// Where they are.
    pub(super) span: Range<usize>,
    /// The render node, if they name one.
    pub(super) render_node: Option<String>,
}

/// A byte order mark, which may stand before a text.
pub(super) const MARK: char = '\u{feff}';

/// What matters in a domain, and the text that its offsets are of: all but a byte order mark.
pub(super) fn read(xml: &[u8]) -> Result<(Document, &str), DomainError> {
    if xml.is_empty() {
        return Err(DomainError::Empty);
    }
    let text = str::from_utf8(xml).map_err(|error| DomainError::Encoding(error.valid_up_to()))?;
    let text = text.strip_prefix(MARK).unwrap_or(text);
    let mut reading = Reading::of(text);
    reading.characters()?;
    while reading.step()? {}
    Ok((reading.document()?, text))
}

/// What an element is, by its place and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Domain,
    Devices,
    HostDevice,
    Graphics,
    Gl,
    Section,
    Argument,
    Variable,
    Other,
}

impl Kind {
    fn of(parent: Option<Kind>, namespace: &ResolveResult<'_>, name: &str) -> Self {
        let own = matches!(namespace, ResolveResult::Unbound);
        let qemu = *namespace == ResolveResult::Bound(Namespace(QEMU_NAMESPACE));
        match (parent, name) {
            (None, "domain") if own => Kind::Domain,
            (Some(Kind::Domain), "devices") if own => Kind::Devices,
            (Some(Kind::Domain), "commandline") if qemu => Kind::Section,
            (Some(Kind::Devices), "hostdev") if own => Kind::HostDevice,
            (Some(Kind::Devices), "graphics") if own => Kind::Graphics,
            (Some(Kind::Graphics), "gl") if own => Kind::Gl,
            (Some(Kind::Section), "arg") if qemu => Kind::Argument,
            (Some(Kind::Section), "env") if qemu => Kind::Variable,
            _ => Kind::Other,
        }
    }
}

/// An element that is not closed yet.
struct Open {
    kind: Kind,
    name: String,
    start_tag: Range<usize>,
}

/// The graphics device that is not closed yet.
#[derive(Default)]
struct OpenGraphics {
    kind: String,
    gl: Option<Gl>,
}

struct Reading<'t> {
    text: &'t str,
    reader: NsReader<&'t [u8]>,
    open: Vec<Open>,
    graphics: OpenGraphics,
    root: Option<Element>,
    devices: Vec<Element>,
    needs_display: bool,
    displays: Vec<Graphics>,
    own_display: Option<String>,
    sections: Vec<Element>,
    qemu_prefix: Option<String>,
    module_dirs: Vec<String>,
}

impl<'t> Reading<'t> {
    fn of(text: &'t str) -> Self {
        let mut reader = NsReader::from_str(text);
        reader.config_mut().check_comments = true;
        Reading {
            text,
            reader,
            open: Vec::new(),
            graphics: OpenGraphics::default(),
            root: None,
            devices: Vec::new(),
            needs_display: false,
            displays: Vec::new(),
            own_display: None,
            sections: Vec::new(),
            qemu_prefix: None,
            module_dirs: Vec::new(),
        }
    }

    /// XML has no way to write most control characters, and a second mark is one that the reader would leave out of its
    /// offsets.
    fn characters(&self) -> Result<(), DomainError> {
        if self.text.starts_with(MARK) {
            return Err(self.malformed("text outside of the domain", 0));
        }
        let control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
        match self.text.bytes().position(|byte| control(&byte)) {
            Some(at) => Err(self.malformed("a control character", at)),
            None => Ok(()),
        }
    }

    /// Reads one tag, or what is between two; nothing is left after the last.
    fn step(&mut self) -> Result<bool, DomainError> {
        let start = self.position();
        let read = self.reader.read_resolved_event();
        let (namespace, event) = match read {
            Ok((ResolveResult::Unbound, event)) => (ResolveResult::Unbound, event),
            Ok((ResolveResult::Bound(Namespace(QEMU_NAMESPACE)), event)) => {
                (ResolveResult::Bound(Namespace(QEMU_NAMESPACE)), event)
            }
            // Of any other namespace nothing matters.
            Ok((_, event)) => (ResolveResult::Unknown(String::new()), event),
            Err(error) => {
                let at = usize::try_from(self.reader.error_position()).unwrap_or(start);
                return Err(self.malformed(&error.to_string(), at));
            }
        };
        let tag = start..self.position();
        if matches!(event, Event::Start(_) | Event::Empty(_) | Event::End(_)) && !self.is_tag(&tag)
        {
            return Err(self.malformed("a tag that is not where it should be", start));
        }
        match event {
            Event::Start(element) => self.start(&element, &namespace, tag)?,
            Event::Empty(element) => {
                self.start(&element, &namespace, tag.clone())?;
                self.end(tag.end, None);
            }
            Event::End(_) => self.end(tag.end, Some(tag.start)),
            Event::Text(text) if self.open.is_empty() && !is_space(&text) => {
                return Err(self.malformed("text outside of the domain", start));
            }
            Event::GeneralRef(reference) if !self.open.is_empty() => {
                let known =
                    reference.is_char_ref() && matches!(reference.resolve_char_ref(), Ok(Some(_)));
                if !known && resolve_predefined_entity(&reference).is_none() {
                    return Err(self.malformed("an entity that nobody declares", start));
                }
            }
            Event::CData(_) | Event::GeneralRef(_) if self.open.is_empty() => {
                return Err(self.malformed("text outside of the domain", start));
            }
            Event::Decl(declaration) => self.declaration(&declaration, start)?,
            Event::DocType(_) => return Err(DomainError::Doctype),
            Event::Eof => return self.eof(start),
            _ => {}
        }
        Ok(true)
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    /// Whether what is written there would not be written into the middle of something else.
    fn is_tag(&self, span: &Range<usize>) -> bool {
        let text = self.text.get(span.clone());
        text.is_some_and(|text| text.starts_with('<') && text.ends_with('>'))
    }

    fn eof(&self, at: usize) -> Result<bool, DomainError> {
        match self.open.last() {
            Some(open) => Err(self.malformed(&format!("<{}> has no end", open.name), at)),
            None => Ok(false),
        }
    }

    fn declaration(&self, declaration: &BytesDecl<'_>, at: usize) -> Result<(), DomainError> {
        if at != 0 {
            return Err(self.malformed("an XML declaration that is not at its beginning", at));
        }
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") => Ok(()),
            Some(Ok(name)) => Err(DomainError::OtherEncoding(excerpt(&name))),
            Some(Err(error)) => Err(self.malformed(&error.to_string(), at)),
        }
    }

    fn start(
        &mut self,
        element: &BytesStart<'_>,
        namespace: &ResolveResult<'_>,
        tag: Range<usize>,
    ) -> Result<(), DomainError> {
        let name = element.name();
        let parent = self.open.last().map(|open| open.kind);
        let kind = Kind::of(parent, namespace, name.local_name().into_inner());
        if parent.is_none() && self.root.is_some() {
            return Err(self.malformed("a second outermost element", tag.start));
        }
        if !is_name(name.into_inner()) {
            return Err(self.malformed("a name that XML does not allow", tag.start));
        }
        if parent.is_none() && kind != Kind::Domain {
            let of = match name.local_name().into_inner() {
                "domain" => " of another namespace",
                _ => "",
            };
            return Err(DomainError::Root(format!(
                "<{}>{of}",
                excerpt(name.into_inner())
            )));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(DomainError::Depth);
        }
        let attributes = self.attributes(element, kind, tag.start)?;
        self.note(kind, attributes);
        self.open.push(Open {
            kind,
            name: name.into_inner().to_owned(),
            start_tag: tag,
        });
        Ok(())
    }

    /// Those of the elements that matter; of the others they are only checked.
    fn attributes(
        &mut self,
        element: &BytesStart<'_>,
        kind: Kind,
        at: usize,
    ) -> Result<Attributes, DomainError> {
        let mut attributes = Attributes::default();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| self.malformed(&error.to_string(), at))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| self.malformed(&error.to_string(), at))?;
            let name = attribute.key.into_inner();
            if !is_name(name) || attribute.value.contains('<') {
                return Err(self.malformed("an attribute that XML does not allow", at));
            }
            if let Some(prefix) = attribute.key.as_namespace_binding() {
                if attribute.value != value {
                    return Err(self.malformed("a namespace with references in it", at));
                }
                if let (PrefixDeclaration::Named(prefix), QEMU_NAMESPACE, Kind::Domain) =
                    (prefix, &*value, kind)
                {
                    self.qemu_prefix = Some(prefix.to_owned());
                }
            }
            if kind != Kind::Other {
                attributes.0.push((name.to_owned(), value.into_owned()));
            }
        }
        Ok(attributes)
    }

    /// What an element says by its attributes.
    fn note(&mut self, kind: Kind, mut attributes: Attributes) {
        match kind {
            Kind::HostDevice => {
                self.needs_display |= attributes.take("display").as_deref() == Some("on");
            }
            Kind::Graphics => {
                self.graphics = OpenGraphics {
                    kind: attributes.take("type").unwrap_or_default(),
                    gl: None,
                };
            }
            Kind::Gl => self.gl(attributes),
            Kind::Argument => {
                let value = attributes.take("value").unwrap_or_default();
                if is_display(&value) {
                    self.own_display = Some(format!("{} for QEMU", excerpt(&value)));
                }
            }
            Kind::Variable if attributes.take("name").as_deref() == Some(MODULE_DIR) => {
                self.module_dirs
                    .push(attributes.take("value").unwrap_or_default());
            }
            _ => {}
        }
    }

    fn gl(&mut self, mut attributes: Attributes) {
        if self.graphics.kind != EGL_HEADLESS {
            if attributes.take("enable").as_deref() == Some("yes") {
                self.own_display = Some(format!("{} with GL", excerpt(&self.graphics.kind)));
            }
        } else if self.graphics.gl.is_none() {
            self.graphics.gl = Some(Gl {
                // Known when it ends.
                span: 0..0,
                render_node: attributes
                    .take("rendernode")
                    .filter(|node| !node.is_empty()),
            });
        }
    }

    /// Ends the innermost element; the reader has compared the names.
    fn end(&mut self, end: usize, end_tag: Option<usize>) {
        let Some(open) = self.open.pop() else {
            return;
        };
        let element = Element {
            name: open.name,
            start_tag: open.start_tag,
            end_tag,
        };
        match open.kind {
            Kind::Domain => self.root = Some(element),
            Kind::Devices => self.devices.push(element),
            Kind::Section => self.sections.push(element),
            Kind::Gl => {
                if let Some(gl) = &mut self.graphics.gl
                    && gl.span.is_empty()
                {
                    gl.span = element.start_tag.start..end;
                }
            }
            Kind::Graphics if self.graphics.kind == EGL_HEADLESS => {
                let gl = self.graphics.gl.take();
                self.displays.push(Graphics { element, gl });
            }
            _ => {}
        }
    }

    fn document(self) -> Result<Document, DomainError> {
        let Some(root) = self.root else {
            return Err(DomainError::Empty);
        };
        let number = self.devices.len();
        let mut devices = self.devices.into_iter();
        let (Some(devices), None) = (devices.next(), devices.next()) else {
            return Err(DomainError::Devices(number));
        };
        Ok(Document {
            root,
            devices,
            needs_display: self.needs_display,
            displays: self.displays,
            own_display: self.own_display,
            qemu_section: self.sections.into_iter().next(),
            qemu_prefix: self.qemu_prefix,
            module_dirs: self.module_dirs,
        })
    }

    fn malformed(&self, what: &str, at: usize) -> DomainError {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |it| it + 1);
        let in_line = before.get(line_start..).unwrap_or_default();
        DomainError::Malformed {
            what: excerpt(what),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(in_line).chars().count() + 1,
        }
    }
}

#[derive(Default)]
struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Whether a text may stand outside of all elements.
fn is_space(text: &str) -> bool {
    text.chars().all(|it| it.is_ascii_whitespace())
}

/// Whether an argument of QEMU chooses a display. QEMU takes one dash or two.
fn is_display(argument: &str) -> bool {
    let option = argument.strip_prefix("--").or(argument.strip_prefix('-'));
    option.is_some_and(|option| option == "display" || option.starts_with("display="))
}

/// Whether XML allows a name, as far as ASCII goes.
fn is_name(name: &str) -> bool {
    let first = |it: char| it.is_ascii_alphabetic() || matches!(it, '_' | ':') || !it.is_ascii();
    let rest = |it: char| first(it) || it.is_ascii_digit() || matches!(it, '-' | '.');
    name.starts_with(first) && name.chars().all(rest)
}

/// A text of others, as much of it as a sentence can hold.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut excerpt: String = printable(text).chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        excerpt.push('…');
    }
    excerpt
}
