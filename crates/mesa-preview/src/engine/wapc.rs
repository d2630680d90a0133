//! The functions of waPC, by which a guest learns what it is asked and answers.

use wasmi::{Caller, Error, Linker, errors::LinkerError};

use super::guest::{Guest, read, read_text, write};

const MODULE: &str = "wapc";

/// Defines all of them.
pub(super) fn define(linker: &mut Linker<Guest>) -> Result<(), LinkerError> {
    linker.func_wrap(MODULE, "__guest_request", guest_request)?;
    linker.func_wrap(MODULE, "__guest_response", guest_response)?;
    linker.func_wrap(MODULE, "__guest_error", guest_error)?;
    linker.func_wrap(MODULE, "__host_call", host_call)?;
    linker.func_wrap(MODULE, "__host_response_len", |guest: Caller<'_, Guest>| {
        host_answer(&guest).0.len() as u32
    })?;
    linker.func_wrap(MODULE, "__host_response", host_response)?;
    linker.func_wrap(MODULE, "__host_error_len", |guest: Caller<'_, Guest>| {
        host_answer(&guest).1.len() as u32
    })?;
    linker.func_wrap(MODULE, "__host_error", host_error)?;
    linker.func_wrap(MODULE, "__console_log", console_log)?;
    Ok(())
}

fn guest_request(
    mut guest: Caller<'_, Guest>,
    function_at: u32,
    payload_at: u32,
) -> Result<(), Error> {
    let Guest {
        function, payload, ..
    } = guest.data();
    let (function, payload) = (function.clone(), payload.clone());
    write(&mut guest, payload_at, &payload)?;
    write(&mut guest, function_at, function.as_bytes())
}

fn guest_response(mut guest: Caller<'_, Guest>, at: u32, length: u32) -> Result<(), Error> {
    let response = read(&mut guest, at, length)?;
    guest.data_mut().response = Some(response);
    Ok(())
}

fn guest_error(mut guest: Caller<'_, Guest>, at: u32, length: u32) -> Result<(), Error> {
    let error = read_text(&mut guest, at, length)?;
    guest.data_mut().error = Some(error);
    Ok(())
}

fn console_log(mut guest: Caller<'_, Guest>, at: u32, length: u32) -> Result<(), Error> {
    log(&read_text(&mut guest, at, length)?);
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "waPC has it so")]
fn host_call(
    mut guest: Caller<'_, Guest>,
    binding_at: u32,
    binding_length: u32,
    namespace_at: u32,
    namespace_length: u32,
    operation_at: u32,
    operation_length: u32,
    payload_at: u32,
    payload_length: u32,
) -> Result<u32, Error> {
    let payload = read(&mut guest, payload_at, payload_length)?;
    let binding = read_text(&mut guest, binding_at, binding_length)?;
    let namespace = read_text(&mut guest, namespace_at, namespace_length)?;
    let operation = read_text(&mut guest, operation_at, operation_length)?;
    let answer = answer_host_call(&binding, &namespace, &operation, &payload);
    let success = answer.is_ok();
    guest.data_mut().host_answer = answer;
    Ok(u32::from(success))
}

/// What the policy server offers to a policy that was granted nothing: its log.
fn answer_host_call(
    binding: &str,
    namespace: &str,
    operation: &str,
    payload: &[u8],
) -> Result<Vec<u8>, String> {
    match (binding, namespace, operation) {
        ("kubewarden", "tracing", "log") => {
            log(&String::from_utf8_lossy(payload));
            Ok(Vec::new())
        }
        _ => Err(format!(
            "mesa-preview has no cluster: host call {binding}/{namespace}/{operation} is refused"
        )),
    }
}

fn log(text: &str) {
    eprintln!("policy log: {text}");
}

fn host_response(mut guest: Caller<'_, Guest>, at: u32) -> Result<(), Error> {
    let response = host_answer(&guest).0.to_vec();
    write(&mut guest, at, &response)
}

fn host_error(mut guest: Caller<'_, Guest>, at: u32) -> Result<(), Error> {
    let error = host_answer(&guest).1.to_owned();
    write(&mut guest, at, error.as_bytes())
}

/// The response of the host to the guest's last call, and its error; one of them is empty.
fn host_answer<'g>(guest: &'g Caller<'_, Guest>) -> (&'g [u8], &'g str) {
    match &guest.data().host_answer {
        Ok(response) => (response, ""),
        Err(error) => (&[], error),
    }
}
