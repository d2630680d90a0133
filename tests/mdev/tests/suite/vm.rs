//! The virtual machine that has the mediated devices: Debian's QEMU, by KVM where that works and by emulation elsewhere.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mdev_tests::{BEGUN, CASES, Case, GUEST, REPORTS, ROOTS, Report};

use crate::kernel::Kernel;
use crate::machine::{Copy, repository, run, stock_launcher};

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(1500);
/// How soon the machine has begun, where KVM does what it should. In a virtual machine it may not.
const SOON: Duration = Duration::from_secs(15);
const KVM: [&str; 4] = ["-accel", "kvm", "-cpu", "host"];
const EMULATION: [&str; 4] = ["-accel", "tcg,thread=multi", "-cpu", "Nehalem"];
/// What makes a multiboot program of 32 bits, whose header is near its start.
const FREESTANDING: &str = "-m32 -O1 -Wall -Wextra -Werror -ffreestanding -fno-pic -no-pie -fno-stack-protector \
    -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static \
    -Wl,-N,-Ttext=0x100000,--build-id=none,-z,noexecstack,--no-warn-rwx-segments";

/// Runs the cases, which find these roots by their names.
pub(crate) fn run_cases(cases: &[Case], roots: &[(&str, &Path)]) -> Vec<Report> {
    let kernel = Kernel::new();
    // The machine's own QEMU is a launcher's too.
    let machine = stock_launcher("trixie");
    let [given, out] = ["given", "out"].map(|name| machine.path().join(name));
    for directory in [&given.join(ROOTS), &out] {
        fs::create_dir_all(directory).unwrap();
    }
    for (name, root) in roots {
        let mut link = Command::new("cp");
        run(link.arg("-alT").arg(root).arg(given.join(ROOTS).join(name))).unwrap();
    }
    fs::write(given.join(CASES), serde_json::to_vec(cases).unwrap()).unwrap();
    let mut compile = Command::new("cc");
    compile
        .args(FREESTANDING.split_whitespace())
        .arg("-o")
        .arg(given.join(GUEST));
    run(compile.arg(repository("tests/mdev/tests/suite/guest.c"))).unwrap();
    fs::copy(kernel.image(), machine.path().join("vmlinuz")).unwrap();
    kernel.write_initramfs(
        Path::new(env!("CARGO_BIN_EXE_init")),
        &machine.path().join("initrd"),
    );

    if !(has_kvm(&machine) && boot(&machine, &KVM, Some(SOON))) {
        assert!(
            boot(&machine, &EMULATION, None),
            "{}",
            said(&machine, "errors")
        );
    }
    let console = said(&machine, "console");
    let reports = fs::read(out.join(REPORTS)).unwrap_or_else(|error| panic!("{error}: {console}"));
    let reports: Vec<Report> = serde_json::from_slice(&reports).unwrap();
    assert_eq!(reports.len(), cases.len(), "{console}");
    reports
}

/// Whether this machine has KVM, from now on in the machine's root too.
fn has_kvm(machine: &Copy) -> bool {
    let dev = machine.path().join("dev");
    fs::create_dir_all(&dev).unwrap();
    Path::new("/dev/kvm").exists()
        && run(Command::new("cp").args(["-a", "/dev/kvm"]).arg(dev)).is_ok()
}

fn said(machine: &Copy, file: &str) -> String {
    fs::read_to_string(machine.path().join(file)).unwrap_or_default()
}

/// Runs the machine to its end. Where it has to have begun after some time and has not, or it fails, that is said.
fn boot(machine: &Copy, accelerator: &[&str], begun_within: Option<Duration>) -> bool {
    // QEMU's 9p server works through /proc.
    let mut qemu = Command::new("unshare");
    qemu.args(["--mount", "--mount-proc", "--root"])
        .arg(machine.path());
    qemu.args([
        "/usr/bin/qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ]);
    qemu.args([
        "-machine",
        "q35",
        "-smp",
        "2",
        "-m",
        "3072",
        "-display",
        "none",
        "-serial",
        "file:/console",
    ]);
    qemu.args(accelerator);
    qemu.args([
        "-kernel",
        "/vmlinuz",
        "-initrd",
        "/initrd",
        "-append",
        "console=ttyS0 quiet panic=-1 mitigations=off",
    ]);
    for (name, read_only) in [("given", "on"), ("out", "off")] {
        let share =
            format!("local,path=/{name},mount_tag={name},security_model=none,readonly={read_only}");
        qemu.arg("-virtfs").arg(share);
    }
    let errors = File::create(machine.path().join("errors")).unwrap();
    let mut qemu = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap();
    let began = Instant::now();
    let is_late = |within: Duration| began.elapsed() > within;
    while qemu.try_wait().unwrap().is_none() {
        let has_not_begun =
            begun_within.is_some_and(is_late) && !said(machine, "console").contains(BEGUN);
        if has_not_begun || is_late(PATIENCE) {
            qemu.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    qemu.wait().unwrap().success()
}
