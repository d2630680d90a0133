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
    /// Whether such a device has the first console, and VNC shows it.
    pub(super) shows_it_first: bool,
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
    Video,
    Model,
    Graphics,
    Gl,
    Section,
    Argument,
    Variable,
    Other,
}

/// The namespace of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    None,
    Qemu,
    Other,
}

impl Space {
    fn of(resolved: &ResolveResult<'_>) -> Self {
        match resolved {
            ResolveResult::Unbound => Space::None,
            ResolveResult::Bound(Namespace(QEMU_NAMESPACE)) => Space::Qemu,
            _ => Space::Other,
        }
    }
}

impl Kind {
    fn of(parent: Option<Kind>, space: Space, name: &str) -> Self {
        match (parent, space, name) {
            (None, Space::None, "domain") => Kind::Domain,
            (Some(Kind::Domain), Space::None, "devices") => Kind::Devices,
            (Some(Kind::Domain), Space::Qemu, "commandline") => Kind::Section,
            (Some(Kind::Devices), Space::None, "hostdev") => Kind::HostDevice,
            (Some(Kind::Devices), Space::None, "video") => Kind::Video,
            (Some(Kind::Video), Space::None, "model") => Kind::Model,
            (Some(Kind::Devices), Space::None, "graphics") => Kind::Graphics,
            (Some(Kind::Graphics), Space::None, "gl") => Kind::Gl,
            (Some(Kind::Section), Space::Qemu, "arg") => Kind::Argument,
            (Some(Kind::Section), Space::Qemu, "env") => Kind::Variable,
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
    has_vnc: bool,
    videos: Vec<String>,
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
            has_vnc: false,
            videos: Vec::new(),
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
        let (space, event) = match self.reader.read_resolved_event() {
            Ok((resolved, event)) => (Space::of(&resolved), event),
            Err(error) => {
                let at = usize::try_from(self.reader.error_position()).unwrap_or(start);
                return Err(self.malformed(&error.to_string(), at));
            }
        };
        let span = start..self.position();
        match event {
            Event::Start(element) => self.start(&element, space, self.tag(span)?)?,
            Event::Empty(element) => {
                let end = span.end;
                self.start(&element, space, self.tag(span)?)?;
                self.end(end, None);
            }
            Event::End(_) => {
                let tag = self.tag(span)?;
                self.end(tag.end, Some(tag.start));
            }
            Event::Decl(declaration) => self.declaration(&declaration, start)?,
            Event::DocType(_) => return Err(DomainError::Doctype),
            Event::Eof => return self.eof(start),
            between => self.between(&between, start)?,
        }
        Ok(true)
    }

    /// Checks what is between two tags.
    fn between(&self, event: &Event<'_>, at: usize) -> Result<(), DomainError> {
        let outside = self.open.is_empty();
        match event {
            Event::Text(text) if outside && !is_space(text) => {}
            Event::CData(_) | Event::GeneralRef(_) if outside => {}
            Event::GeneralRef(reference) => {
                let is_character = matches!(reference.resolve_char_ref(), Ok(Some(_)));
                if is_character || resolve_predefined_entity(reference).is_some() {
                    return Ok(());
                }
                return Err(self.malformed("an entity that nobody declares", at));
            }
            _ => return Ok(()),
        }
        Err(self.malformed("text outside of the domain", at))
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    /// The span of a tag: what is written there must not get into the middle of something else.
    fn tag(&self, span: Range<usize>) -> Result<Range<usize>, DomainError> {
        match self.text.get(span.clone()) {
            Some(text) if text.starts_with('<') && text.ends_with('>') => Ok(span),
            _ => Err(self.malformed("a tag that is not where it should be", span.start)),
        }
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
        space: Space,
        tag: Range<usize>,
    ) -> Result<(), DomainError> {
        let name = element.name();
        let parent = self.open.last().map(|open| open.kind);
        let kind = Kind::of(parent, space, name.local_name().into_inner());
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
            Kind::Model => self.videos.extend(attributes.take("type")),
            Kind::Graphics => {
                self.graphics = OpenGraphics {
                    kind: attributes.take("type").unwrap_or_default(),
                    gl: None,
                };
                self.has_vnc |= self.graphics.kind == "vnc";
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
        // Where nothing is said of a video device libvirt adds one, before all host devices.
        let has_none = !self.videos.is_empty() && self.videos.iter().all(|model| model == "none");
        Ok(Document {
            root,
            devices,
            needs_display: self.needs_display,
            shows_it_first: self.needs_display && self.has_vnc && has_none,
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
