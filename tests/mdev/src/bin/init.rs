//! The first and only process of the virtual machine: makes a mediated device for each case, starts the launcher's container
//! with QEMU in it, and writes down what came of it.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use display_tests::pod::Container;
use display_tests::qmp::outcome;
use display_tests::realise::{Ground, become_container};
use display_tests::vnc;
use mdev_tests::{
    BEGUN, CASES, Case, DEVICE, Driver, Ended, GUEST, PRIVATE, REPORTS, ROOTS, Report, Step,
};
use rustix::mount::{MountFlags, MountPropagationFlags};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the host shows, and where it looks.
const GIVEN: &str = "/given";
const OUT: &str = "/out";
/// Where pods keep their volumes.
const STATE: &str = "/run/pods";
/// The modules, in the order in which they are loaded.
const MODULES: &str = "/modules";
/// How many cases run at once.
const PROCESSORS: usize = 2;
/// The user of a launcher.
const USER: u32 = 107;
/// An emulated QEMU on an emulated processor takes its time: ramfb alone a minute, and three on a machine that is half as fast.
const PATIENCE: Duration = Duration::from_secs(300);
/// A VM that fails to start does so before it answers.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if let [_, container, index] = arguments.as_slice()
        && container == "container"
    {
        let error = index.parse().map_err(Into::into).and_then(start);
        eprintln!(
            "the container does not start: {}",
            error.unwrap_or_else(|error| error.to_string())
        );
        return ExitCode::FAILURE;
    }
    println!("{BEGUN}");
    if let Err(error) = boot() {
        println!("init: {error}");
    }
    rustix::fs::sync();
    // With QEMU's -no-reboot this is its end.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    ExitCode::FAILURE
}

fn boot() -> Outcome<()> {
    let none = MountFlags::empty();
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
    ] {
        fs::create_dir_all(at)?;
        rustix::mount::mount(kind, at, kind, none, None)?;
    }
    for module in fs::read_to_string(Path::new(MODULES).join("order"))?.lines() {
        let file = File::open(Path::new(MODULES).join(module))?;
        rustix::system::finit_module(&file, c"", 0)
            .map_err(|error| format!("{module}: {error}"))?;
    }
    for (tag, at, flags) in [("given", GIVEN, MountFlags::RDONLY), ("out", OUT, none)] {
        fs::create_dir_all(at)?;
        let options = match tag {
            "given" => c"trans=virtio,version=9p2000.L,msize=512000,cache=loose",
            _ => c"trans=virtio,version=9p2000.L,msize=512000",
        };
        rustix::mount::mount(tag, at, "9p", flags, Some(options))
            .map_err(|error| format!("{tag}: {error}"))?;
    }
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    fs::create_dir_all(STATE)?;
    hand_over("/dev/vfio/vfio")?;
    let cases = cases()?;
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..PROCESSORS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { break };
                    println!("init: {}", case.name);
                    match report(index, case) {
                        Ok(report) => drop(reports.lock().map(|mut it| it.insert(index, report))),
                        Err(error) => println!("init: {}: {error}", case.name),
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().map_err(|error| error.to_string())?;
    let reports: Vec<Report> = reports.into_values().collect();
    fs::write(
        Path::new(OUT).join(REPORTS),
        serde_json::to_vec_pretty(&reports)?,
    )?;
    Ok(())
}

fn cases() -> Outcome<Vec<Case>> {
    Ok(serde_json::from_slice(&fs::read(
        Path::new(GIVEN).join(CASES),
    )?)?)
}

/// A launcher's process may open it, as a device plugin sees to.
fn hand_over(path: impl AsRef<Path>) -> Outcome<()> {
    let path = path.as_ref();
    chown(path, Some(USER), Some(USER)).map_err(of(path))
}

/// Names the place of an error.
fn of(path: &Path) -> impl FnOnce(io::Error) -> Box<dyn Error> {
    move |error| format!("{}: {error}", path.display()).into()
}

/// A mediated device, which is gone with this value: each keeps the state that a guest left.
struct Device {
    id: String,
    /// The group that a user of the device opens.
    group: String,
}

impl Device {
    fn make(driver: Driver, id: String) -> Outcome<Self> {
        let types = format!(
            "/sys/class/mdev_bus/{0}/mdev_supported_types",
            driver.module()
        );
        fs::write(format!("{types}/{}/create", driver.smallest()), &id)
            .map_err(|error| format!("{types}: {error}"))?;
        let group = PathBuf::from(format!("/sys/bus/mdev/devices/{id}/iommu_group"));
        let group = fs::read_link(&group).map_err(of(&group))?;
        let group = group
            .file_name()
            .ok_or("no group")?
            .to_string_lossy()
            .into_owned();
        let group = format!("/dev/vfio/{group}");
        hand_over(&group)?;
        Ok(Device { id, group })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::write(format!("/sys/bus/mdev/devices/{}/remove", self.id), "1");
    }
}

/// The device of a case: another for each, by its last digits.
fn device(index: usize) -> String {
    let (before, _) = DEVICE.split_at(DEVICE.len() - 2);
    format!("{before}{index:02}")
}

fn state(index: usize) -> PathBuf {
    Path::new(STATE).join(index.to_string())
}

/// The directory of a pod's own volume, where QEMU has its sockets.
fn private(index: usize) -> PathBuf {
    state(index).join("volumes").join(PRIVATE[1])
}

/// Becomes QEMU in the compute container of a case. Returns why that fails.
fn start(index: usize) -> Outcome<String> {
    let case = cases()?.into_iter().nth(index).ok_or("no such case")?;
    let container = Container::of(&case.pod, "compute")?;
    let roots = Path::new(GIVEN).join(ROOTS);
    let images = case.images.into_iter();
    let mut devices = vec!["/dev/vfio/vfio".to_owned(), env::var("GROUP")?];
    if case.has_render_node {
        devices.push("/dev/dri/renderD128".to_owned());
    }
    let ground = Ground {
        node: roots.join(case.node),
        image: roots.join(case.launcher),
        state: state(index),
        image_volumes: images
            .map(|(reference, root)| (reference, roots.join(root)))
            .collect(),
        devices: devices.into_iter().map(PathBuf::from).collect(),
        noexec: false,
        ignore_sub_paths: false,
    };
    let command = case.command.replace(DEVICE, &device(index));
    let command = ["/usr/bin/bash".to_owned(), "-c".to_owned(), command];
    Ok(become_container(&container, &ground, &command).to_string())
}

fn report(index: usize, case: &Case) -> Outcome<Report> {
    let began = Instant::now();
    let device = Device::make(case.driver, device(index))?;
    let private = private(index);
    fs::create_dir_all(&private)?;
    let guest = Path::new(GIVEN).join(GUEST);
    fs::copy(&guest, private.join(GUEST)).map_err(of(&guest))?;
    hand_over(&private)?;
    let errors = state(index).join("errors");
    if case.has_render_node {
        hand_over("/dev/dri/renderD128")?;
    }
    let mut qemu = Command::new("/proc/self/exe");
    qemu.args(["container", &index.to_string()]);
    qemu.env("GROUP", &device.group);
    let child = qemu
        .stdin(Stdio::null())
        .stderr(File::create(&errors)?)
        .spawn()?;
    let mut vm = Vm {
        child,
        private,
        qmp: None,
        serial: None,
        heard: String::new(),
    };
    let mut steps = Vec::new();
    // A VM that does not start takes no step.
    if vm.connect().is_err() {
        vm.take(&Step::Gone)?;
    } else {
        for step in &case.steps {
            let taken = vm.take(step).map_err(|error| error.to_string());
            let failed = taken.is_err();
            println!("init: {}: {step:?}: {taken:?}", case.name);
            steps.push(taken);
            if failed {
                break;
            }
        }
    }
    let ended = vm.child.try_wait()?.and_then(ended);
    vm.child.kill()?;
    vm.child.wait()?;
    Ok(Report {
        name: case.name.clone(),
        steps,
        ended,
        said: String::from_utf8_lossy(&fs::read(errors)?).into_owned(),
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn ended(status: ExitStatus) -> Option<Ended> {
    let code = status.code().map(Ended::Code);
    code.or_else(|| status.signal().map(Ended::Signal))
}

/// A QEMU in its container.
struct Vm {
    child: Child,
    private: PathBuf,
    qmp: Option<BufReader<UnixStream>>,
    serial: Option<(UnixStream, Receiver<u8>)>,
    heard: String,
}

impl Vm {
    /// Waits for the monitor, and for nothing longer than QEMU lives.
    fn connect(&mut self) -> Outcome<()> {
        let monitor = self.socket("monitor")?;
        monitor.set_read_timeout(Some(PATIENCE))?;
        self.qmp = Some(BufReader::new(monitor));
        self.execute("qmp_capabilities", &json!({}))?;
        let serial = self.socket("serial")?;
        let mut bytes = BufReader::new(serial.try_clone()?).bytes();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            while let Some(Ok(byte)) = bytes.next()
                && sender.send(byte).is_ok()
            {}
        });
        self.serial = Some((serial, receiver));
        Ok(())
    }

    fn socket(&mut self, name: &str) -> Outcome<UnixStream> {
        let until = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(self.private.join(name)) {
                Ok(socket) => return Ok(socket),
                Err(_) if self.child.try_wait()?.is_some() => return Err("QEMU is gone".into()),
                Err(error) if Instant::now() > until => {
                    return Err(format!("{name}: {error}").into());
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn take(&mut self, step: &Step) -> Outcome<Value> {
        match step {
            Step::Execute(command, arguments) => self.execute(command, arguments),
            Step::Hear(word) => self.hear(word),
            Step::Send => {
                let (serial, _) = self.serial.as_mut().ok_or("no serial port")?;
                serial.write_all(b"!")?;
                Ok(Value::Null)
            }
            Step::Screen(device) => {
                let file = Path::new(PRIVATE[0]).join("screen.ppm");
                self.execute("screendump", &json!({"filename": file, "device": device}))?;
                let picture = fs::read(self.private.join("screen.ppm"))?;
                // P6, width, height and 255, each with one blank after it.
                let pixels = picture
                    .splitn(5, |byte| byte.is_ascii_whitespace())
                    .nth(4)
                    .ok_or("no picture")?;
                Ok(colours(pixels.chunks_exact(3)))
            }
            Step::Vnc => {
                let picture = vnc::look(UnixStream::connect(self.private.join("vnc"))?)?;
                Ok(colours(picture.pixels.iter().map(|pixel| &pixel[..])))
            }
            Step::Press(keys) => {
                vnc::press(UnixStream::connect(self.private.join("vnc"))?, keys)?;
                Ok(Value::Null)
            }
            Step::Gone => {
                let until = Instant::now() + PATIENCE;
                while self.child.try_wait()?.is_none() {
                    if Instant::now() > until {
                        return Err("QEMU is still there".into());
                    }
                    thread::sleep(PAUSE);
                }
                Ok(Value::Null)
            }
        }
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Outcome<Value> {
        let qmp = self.qmp.as_mut().ok_or("no monitor")?;
        let message = json!({"execute": command, "arguments": arguments});
        writeln!(qmp.get_mut(), "{message}")?;
        let mut line = String::new();
        while qmp.read_line(&mut line)? > 0 {
            if let Some(outcome) = outcome(serde_json::from_str(&line)?) {
                return outcome.map_err(|error| format!("{command}: {error}").into());
            }
            line.clear();
        }
        Err(format!("{command}: QEMU is gone").into())
    }

    fn hear(&mut self, word: &str) -> Outcome<Value> {
        let (_, bytes) = self.serial.as_ref().ok_or("no serial port")?;
        let until = Instant::now() + PATIENCE;
        while !(self.heard.contains(word) && self.heard.ends_with('\n')) {
            match bytes.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(byte) => self.heard.push(byte.into()),
                Err(error) => return Err(format!("heard {:?}: {error}", self.heard).into()),
            }
        }
        Ok(Value::String(std::mem::take(&mut self.heard)))
    }
}

/// The number of all pixels, and that of each of the three commonest colours.
fn colours<'p>(pixels: impl Iterator<Item = &'p [u8]>) -> Value {
    let mut colours: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut all = 0;
    for pixel in pixels {
        *colours.entry(pixel).or_default() += 1;
        all += 1;
    }
    let mut colours: Vec<_> = colours.into_iter().collect();
    colours.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    colours.truncate(3);
    let name = |colour: &[u8]| colour.iter().map(|part| format!("{part:02x}")).collect();
    let colours = colours
        .into_iter()
        .map(|(colour, count)| (name(colour), count));
    json!({"pixels": all, "colours": colours.collect::<BTreeMap<String, usize>>()})
}
