//! The functions of WASI (`wasi_snapshot_preview1`) that the runtimes of languages call: a guest without arguments,
//! environment and files, as in the policy server.

use std::{
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use wasmi::{Caller, Error, ExternType, Linker, Module, Val, ValType, errors::LinkerError};

use super::guest::{Guest, read, read_number, write};

const MODULE: &str = "wasi_snapshot_preview1";

/// How WASI says that something is or is not.
type Errno = u32;

const SUCCESS: Errno = 0;
const BADF: Errno = 8;
const INVAL: Errno = 28;
const NOSYS: Errno = 52;

/// The guest's standard output and error.
const OUTPUTS: [u32; 2] = [1, 2];

/// Defines what a module may import.
pub(super) fn define(linker: &mut Linker<Guest>, module: &Module) -> Result<(), LinkerError> {
    linker.func_wrap(MODULE, "args_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "args_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "environ_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "environ_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "sched_yield", || SUCCESS)?;
    linker.func_wrap(MODULE, "proc_exit", |status: i32| -> Result<(), Error> {
        Err(Error::i32_exit(status))
    })?;
    for import in module.imports() {
        define_absent(linker, import.module(), import.name(), import.ty());
    }
    Ok(())
}

/// Whatever else WASI has answers that there is no such file, or no such service.
fn define_absent(linker: &mut Linker<Guest>, module: &str, name: &str, ty: &ExternType) {
    let ExternType::Func(ty) = ty else { return };
    if module != MODULE || *ty.results() != [ValType::I32] {
        return;
    }
    let on_file = ["fd_", "path_", "sock_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    let errno = match name {
        _ if on_file => BADF,
        "clock_res_get" | "poll_oneoff" | "proc_raise" => NOSYS,
        _ => return,
    };
    // Those that are defined already stay as they are: that they are is all that can go wrong.
    let _ = linker.func_new(module, name, ty.clone(), move |_, _, results| {
        results.fill(Val::I32(errno.cast_signed()));
        Ok(())
    });
}

fn no_strings(mut guest: Caller<'_, Guest>, count_at: u32, bytes_at: u32) -> Result<Errno, Error> {
    write(&mut guest, count_at, &0u32.to_le_bytes())?;
    write(&mut guest, bytes_at, &0u32.to_le_bytes())?;
    Ok(SUCCESS)
}

fn clock_time_get(
    mut guest: Caller<'_, Guest>,
    clock: u32,
    _precision: u64,
    at: u32,
) -> Result<Errno, Error> {
    /// The clock on the wall, and one that only goes forward; a preview is too short to tell them apart.
    const CLOCKS: [u32; 2] = [0, 1];
    if !CLOCKS.contains(&clock) {
        return Ok(INVAL);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
    write(&mut guest, at, &nanoseconds.to_le_bytes())?;
    Ok(SUCCESS)
}

/// Always the same sequence (SplitMix64), so that a preview is always the same.
fn random_get(mut guest: Caller<'_, Guest>, at: u32, length: u32) -> Result<Errno, Error> {
    let mut bytes = read(&mut guest, at, length)?;
    for chunk in bytes.chunks_mut(8) {
        let state = guest.data().random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        guest.data_mut().random = state;
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = (mixed ^ (mixed >> 31)).to_le_bytes();
        chunk
            .iter_mut()
            .zip(random)
            .for_each(|(byte, random)| *byte = random);
    }
    write(&mut guest, at, &bytes)?;
    Ok(SUCCESS)
}

/// What the guest prints goes to standard error: standard output is for the preview.
fn fd_write(
    mut guest: Caller<'_, Guest>,
    file: u32,
    list_at: u32,
    count: u32,
    written_at: u32,
) -> Result<Errno, Error> {
    if !OUTPUTS.contains(&file) {
        return Ok(BADF);
    }
    let mut written: u32 = 0;
    for number in 0..count {
        let entry_at = list_at.wrapping_add(number.wrapping_mul(8));
        let at = read_number(&mut guest, entry_at)?;
        let length = read_number(&mut guest, entry_at.wrapping_add(4))?;
        let bytes = read(&mut guest, at, length)?;
        // As in any program: nobody is left to be told.
        let _ = io::stderr().write_all(&bytes);
        written = written.wrapping_add(length);
    }
    write(&mut guest, written_at, &written.to_le_bytes())?;
    Ok(SUCCESS)
}
