//! What the host keeps for one guest, and how its functions reach the guest's memory.

use wasmi::{Caller, Error, Extern, StoreLimits, StoreLimitsBuilder, TrapCode};

use super::{MAX_MEMORY, MAX_TABLE_ELEMENTS};

/// The fuel for a call of a host function, and for each byte that it copies: a guest must not keep the host busy
/// for nothing.
const FUEL_PER_CALL: u64 = 500;

/// The state of a guest between the calls of host functions.
pub(super) struct Guest {
    pub(super) limits: StoreLimits,
    /// What the guest is asked: a function and its payload.
    pub(super) function: String,
    pub(super) payload: Vec<u8>,
    /// What it answers.
    pub(super) response: Option<Vec<u8>>,
    pub(super) error: Option<String>,
    /// What the host answered to its last call.
    pub(super) host_answer: Result<Vec<u8>, String>,
    /// Where the sequence of random numbers is.
    pub(super) random: u64,
}

impl Guest {
    pub(super) fn new() -> Self {
        let limits = StoreLimitsBuilder::new()
            .memories(1)
            .memory_size(MAX_MEMORY)
            .tables(1)
            .table_elements(MAX_TABLE_ELEMENTS);
        Self {
            limits: limits.build(),
            function: String::new(),
            payload: Vec::new(),
            response: None,
            error: None,
            host_answer: Ok(Vec::new()),
            random: 0,
        }
    }

    /// Prepares for a call, and returns the lengths that the guest is called with.
    pub(super) fn ask(&mut self, function: &str, payload: &[u8]) -> (u32, u32) {
        *self = Self {
            function: function.to_owned(),
            payload: payload.to_vec(),
            random: self.random,
            ..Self::new()
        };
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        (length(function.len()), length(payload.len()))
    }

    /// The answer to a call that the guest says to have succeeded in, or not.
    pub(super) fn answer(&mut self, success: bool) -> Result<Vec<u8>, String> {
        match (success, self.response.take(), self.error.take()) {
            (true, Some(response), _) => Ok(response),
            (_, _, Some(error)) => Err(error),
            (true, None, None) => {
                Err("No error message OR response set for call success".to_owned())
            }
            (false, _, None) => Err("No error message set for call failure".to_owned()),
        }
    }
}

/// A part of the guest's memory.
pub(super) fn read(
    caller: &mut Caller<'_, Guest>,
    start: u32,
    length: u32,
) -> Result<Vec<u8>, Error> {
    charge(caller, u64::from(length))?;
    let memory = memory(caller)?.data(&*caller);
    let end = u64::from(start) + u64::from(length);
    let range = start as usize..usize::try_from(end).unwrap_or(usize::MAX);
    let bytes = memory.get(range).ok_or(TrapCode::MemoryOutOfBounds)?;
    Ok(bytes.to_vec())
}

/// A part of the guest's memory that is a text.
pub(super) fn read_text(
    caller: &mut Caller<'_, Guest>,
    start: u32,
    length: u32,
) -> Result<String, Error> {
    String::from_utf8(read(caller, start, length)?)
        .map_err(|error| Error::new(format!("not a text: {error}")))
}

/// A number in the guest's memory.
pub(super) fn read_number(caller: &mut Caller<'_, Guest>, start: u32) -> Result<u32, Error> {
    let bytes = read(caller, start, 4)?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// Puts something into the guest's memory.
pub(super) fn write(caller: &mut Caller<'_, Guest>, start: u32, bytes: &[u8]) -> Result<(), Error> {
    charge(caller, bytes.len() as u64)?;
    Ok(memory(caller)?.write(caller, start as usize, bytes)?)
}

fn memory(caller: &Caller<'_, Guest>) -> Result<wasmi::Memory, Error> {
    caller
        .get_export("memory")
        .and_then(Extern::into_memory)
        .ok_or_else(|| Error::new("the guest exports no memory"))
}

fn charge(caller: &mut Caller<'_, Guest>, bytes: u64) -> Result<(), Error> {
    let left = caller.get_fuel()?.checked_sub(FUEL_PER_CALL + bytes);
    caller.set_fuel(left.ok_or(TrapCode::OutOfFuel)?)
}
