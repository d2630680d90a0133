//! `mesa-node install`: the image's files on the node, and the label that says so for as long as that is true.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use manifests::console::Failure;
use staging::label::{self, Label};
use staging::{Area, CURRENT, Context, Generation, Manifest, Selinux, StagingError, human_size};

use super::Place;
use super::image::{FlatImage, ImageError};
use super::status;
use crate::log::{self, Level};
use crate::stop::{self, Stop};

/// How often a label is renewed before it expires.
const RENEWALS: u32 = 4;
/// How long it waits for others that are at the same directory.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// What to install where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The root of the image.
    pub root: PathBuf,
    /// Where its files and the label go.
    pub place: Place,
    /// How long the label holds unless it is renewed.
    pub expiry: Duration,
    /// The node's proc file system, which tells what containers have mounted.
    pub proc: PathBuf,
    /// Whether the files are labelled for SELinux.
    pub selinux: Selinux,
    /// Whether to end once all is there.
    pub once: bool,
}

/// Why the files are not there, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The directory.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// What a program needs of the system.
    #[error("cannot start")]
    Start(#[source] std::io::Error),
}

impl Failure for InstallError {
    fn fix(&self) -> Option<String> {
        match self {
            InstallError::Image(error) => error.fix(),
            InstallError::Staging(error) => error.fix(),
            InstallError::Start(_) => None,
        }
    }
}

/// Installs the image's files, labels the node, and renews that until SIGTERM, or SIGINT. The label stays then: what it
/// says is true, and a restart of this program is no reason to send VMs elsewhere.
///
/// # Errors
/// Where the files cannot be written. The generation that was current still is.
pub fn install(options: &Options) -> Result<(), InstallError> {
    let runtime = stop::runtime().map_err(InstallError::Start)?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> Result<(), InstallError> {
    let mut stop = Stop::new().map_err(InstallError::Start)?;
    let image = FlatImage::open(&options.root)?;
    let late = Instant::now() + PATIENCE;
    let mut installed = loop {
        match Installed::new(options, &image) {
            // Another install may be looking for what nobody looks after.
            Err(StagingError::Locked(_)) if Instant::now() < late => {
                tokio::time::sleep(PAUSE).await;
            }
            installed => break installed?,
        }
    };
    loop {
        installed.renew()?;
        if options.once {
            return Ok(());
        }
        tokio::select! {
            () = stop.told() => {
                log::say(Level::Info, "ends, as it was told to; the label holds until it expires");
                return Ok(());
            }
            () = tokio::time::sleep(options.expiry / RENEWALS) => {}
        }
    }
}

/// A layout's directory, which nobody else changes as long as this lives.
struct Installed<'a> {
    options: &'a Options,
    layout: &'a str,
    area: Area,
    generation: Generation<'static>,
    /// How its files were when their checksums were right.
    sound: Option<Vec<Mark>>,
}

impl<'a> Installed<'a> {
    fn new(options: &'a Options, image: &'a FlatImage) -> Result<Self, StagingError> {
        Ok(Installed {
            options,
            layout: &image.layout,
            area: Area::open(&options.place.of(&image.layout))?,
            generation: image.generation(),
            sound: None,
        })
    }

    /// Sees to it that the generation is there and whole, and only then says so.
    fn renew(&mut self) -> Result<(), StagingError> {
        if let Err(error) = self.put() {
            self.withdraw();
            return Err(error);
        }
        if let Some(file) = self.options.place.label_of(self.layout) {
            let label = Label {
                ready: true,
                layout: self.layout.to_owned(),
                of_image: true,
                expiry: Some(self.options.expiry),
            };
            label::write(&file, &label, self.generation.manifest())?;
        }
        self.area.touch()?;
        // That something stays is no reason to end.
        if let Err(error) = self.area.prune(0, &self.options.proc).map(removed) {
            warn(&error);
        }
        if let Err(error) = self.remove_orphans() {
            warn(&error);
        }
        Ok(())
    }

    /// Writes the generation where it is missing or damaged. Checksums are compared at the start, and where a file is not
    /// as it was.
    fn put(&mut self) -> Result<(), StagingError> {
        let directory = self.options.place.of(self.layout).join(CURRENT);
        let marks = || marks(self.generation.manifest(), &directory);
        let is_current = self.area.current().as_deref() == Some(self.generation.id());
        if is_current && self.sound.is_some() && self.sound == marks() {
            return Ok(());
        }
        let context = Context::choose(self.options.selinux);
        let size = human_size(self.generation.manifest().total_size());
        let is_new = self
            .area
            .publish(&self.generation, context.as_ref(), &|_| {})
            .map_err(|error| error.with_size(&size))?;
        self.sound = marks();
        let found = if is_new { "" } else { " already, and whole" };
        let (layout, id) = (self.layout, self.generation.id());
        let said = format!("layout {layout}: generation {id} is current{found}");
        log::say(Level::Info, &said);
        if let Some(advice) = context.and_then(|context| context.advice(&directory)) {
            log::say(Level::Warning, &advice);
        }
        Ok(())
    }

    /// Says that the node is not ready, where what is current is not whole: after a failed update it may well be.
    fn withdraw(&self) {
        let current = self.options.place.of(self.layout).join(CURRENT);
        let label = self.options.place.label_of(self.layout);
        if let Some(file) =
            label.filter(|file| file.exists() && status::judge(&current, true).is_err())
        {
            match label::write_not_ready(&file) {
                Ok(()) => log::say(Level::Warning, "the label says that the node is not ready"),
                Err(error) => warn(&error),
            }
        }
    }

    /// Removes layouts that nobody has looked after for as long as a label holds: those of launchers of the past.
    fn remove_orphans(&self) -> Result<(), StagingError> {
        let place = &self.options.place;
        for layout in place.layouts()? {
            if layout == self.layout {
                continue;
            }
            let area = match Area::open(&place.of(&layout)) {
                Err(StagingError::Locked(_)) => continue,
                area => area?,
            };
            let age = SystemTime::now().duration_since(area.touched()?);
            // A clock that was set back tells nothing.
            if !age.is_ok_and(|age| age > self.options.expiry) {
                continue;
            }
            let own = place.label_of(self.layout);
            if let Some(file) = place
                .label_of(&layout)
                .filter(|it| Some(it) != own.as_ref())
            {
                label::remove(&file)?;
            }
            log::say(
                Level::Info,
                &format!("layout {layout}: nobody looks after it any more, so it goes"),
            );
            removed(area.remove(&self.options.proc)?);
        }
        Ok(())
    }
}

fn removed(pruned: staging::Pruned) {
    for id in pruned.removed {
        log::say(Level::Info, &format!("generation {id} is removed"));
    }
}

fn warn(error: &StagingError) {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text += &format!(": {source}");
    }
    if let Some(fix) = error.fix() {
        text += &format!("; {fix}");
    }
    log::say(Level::Warning, &text);
}

/// What changes when a file does: its number, size and times.
type Mark = (u64, u64, i64, i64, i64, i64);

/// The marks of all files of a generation; none where one is missing.
fn marks(manifest: &Manifest, directory: &Path) -> Option<Vec<Mark>> {
    let files = manifest.files.iter();
    let marks = files.map(|file| {
        let it = fs::metadata(directory.join(&file.path)).ok()?;
        Some((
            it.ino(),
            it.size(),
            it.mtime(),
            it.mtime_nsec(),
            it.ctime(),
            it.ctime_nsec(),
        ))
    });
    marks.collect()
}
