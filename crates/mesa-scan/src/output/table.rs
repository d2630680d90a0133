//! What people read. Colours are escape sequences here; the stream leaves them out where it is no terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use manifests::printable;

use super::{Scan, System};
use crate::container::Findings;
use crate::gl::files::size_of;
use crate::gl::{Item, Layout, Mount, Role};
use staging::human_size;

const HEAD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

/// Writes a scan: what must be mounted, what the image has, and the verdict.
///
/// # Errors
/// Where the stream cannot be written.
pub fn table(out: &mut dyn Write, scan: &Scan) -> io::Result<()> {
    system(out, "Node", &scan.node)?;
    match &scan.image {
        Some(image) => system(out, "Image", image)?,
        None => writeln!(out, "{HEAD}Image{HEAD:#}  none given")?,
    }
    let mut groups: BTreeMap<Role, Vec<&Item>> = BTreeMap::new();
    for item in &scan.files.items {
        groups.entry(item.role).or_default().push(item);
    }
    let names = scan.files.items.iter().map(|item| item.name.len());
    let width = names.max().unwrap_or_default();
    for (role, items) in &groups {
        let size = human_size(size_of(items.iter().copied()));
        writeln!(
            out,
            "\n{HEAD}{}{HEAD:#} {FAINT}{}, {size}{FAINT:#}",
            title(*role),
            count(items.len(), "name")
        )?;
        for item in items {
            let name = printable(&item.name);
            let path = printable(item.node_path.as_str());
            let size = human_size(item.size);
            writeln!(out, "  {name:width$}  {size:>9}  {FAINT}{path}{FAINT:#}")?;
        }
    }
    present(out, &scan.files.present)?;
    if scan.plan.layout != Layout::Files {
        staged(out, &scan.plan.mounts)?;
    }
    let total = human_size(scan.files.total_size());
    let files = count(scan.files.file_count(), "file");
    let names = count(scan.files.items.len(), "name");
    let mounts = count(scan.plan.mounts.len(), "mount");
    writeln!(
        out,
        "\n{HEAD}Total{HEAD:#}  {total} in {files} under {names}, {mounts}"
    )?;
    if let Some(version) = scan.files.minimal_glibc() {
        writeln!(out, "       needs glibc {version} or newer")?;
    }
    writeln!(out)?;
    findings(out, &scan.findings)
}

/// Writes whether GL will load, why not, and then the notes.
///
/// # Errors
/// Where the stream cannot be written.
pub fn findings(out: &mut dyn Write, findings: &Findings) -> io::Result<()> {
    if findings.loads() {
        writeln!(out, "{GOOD}GL will load.{GOOD:#}")?;
    } else {
        let count = count(findings.fatal().count(), "reason");
        writeln!(out, "{BAD}GL will not load{BAD:#}, {count}:")?;
    }
    let mut reasons = findings.fatal().peekable();
    while let Some(reason) = reasons.next() {
        writeln!(out, "  - {}", reason.what)?;
        // One fix for as many reasons as have the same.
        if reasons.peek().is_none_or(|next| next.fix != reason.fix) {
            writeln!(out, "    {FAINT}{}{FAINT:#}", reason.fix)?;
        }
    }
    for note in findings.notes() {
        writeln!(out, "{HEAD}Note{HEAD:#}: {note}")?;
    }
    Ok(())
}

fn system(out: &mut dyn Write, name: &str, system: &System) -> io::Result<()> {
    let glibc = match system.glibc {
        Some(version) => format!("glibc symbols up to {version}"),
        None => "glibc of unknown version".to_owned(),
    };
    let System {
        arch,
        library_directory,
        ..
    } = system;
    let library_directory = printable(library_directory.as_str());
    writeln!(
        out,
        "{HEAD}{name:5}{HEAD:#}  {arch}, {glibc}, libraries in {library_directory}"
    )
}

fn present(out: &mut dyn Write, present: &BTreeMap<String, String>) -> io::Result<()> {
    if present.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{HEAD}In the image already{HEAD:#} {FAINT}{}{FAINT:#}",
        count(present.len(), "name")
    )?;
    for (name, path) in present {
        let (name, path) = (printable(name), printable(path));
        writeln!(out, "  {name}  {FAINT}{path}{FAINT:#}")?;
    }
    Ok(())
}

fn staged(out: &mut dyn Write, mounts: &[Mount]) -> io::Result<()> {
    writeln!(out, "\n{HEAD}Mounts{HEAD:#}")?;
    for mount in mounts {
        writeln!(
            out,
            "  {} {FAINT}at{FAINT:#} {}",
            printable(&mount.path),
            printable(&mount.mount_path)
        )?;
    }
    Ok(())
}

fn title(role: Role) -> &'static str {
    match role {
        Role::Library => "Libraries",
        Role::LibraryAtPath => "Libraries at fixed paths",
        Role::Dri => "DRI drivers",
        Role::Gbm => "GBM backends",
        Role::Vendor => "EGL vendors",
        Role::Drirc => "Mesa's configuration",
        Role::QemuModule => "QEMU's modules",
    }
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}
