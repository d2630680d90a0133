//! QEMU's qtest protocol: a machine's memory and I/O ports, reached from outside, whether its processors run or not.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

/// Why the machine was not reached.
#[derive(Debug, thiserror::Error)]
pub enum QtestError {
    /// The socket.
    #[error("QEMU's qtest socket: {0}")]
    Io(#[from] io::Error),
    /// An answer that is not of the protocol.
    #[error("qtest: {command:?} was answered {answer:?}")]
    Answer {
        /// What was asked.
        command: String,
        /// What came back.
        answer: String,
    },
}

/// A machine whose QEMU was given `-qtest unix:…,server=on,wait=off`.
#[derive(Debug)]
pub struct Qtest(BufReader<UnixStream>);

impl Qtest {
    /// The machine at the other end of a socket.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Qtest(BufReader::new(socket))
    }

    /// Reads memory, also that of a device, in one access where the device allows one of this size.
    ///
    /// # Errors
    /// Where QEMU does not answer.
    pub fn read(&mut self, address: u64, size: u32) -> Result<Vec<u8>, QtestError> {
        let command = format!("read {address:#x} {size:#x}");
        let answer = self.ask(&command)?;
        hex_bytes(&answer).ok_or(QtestError::Answer { command, answer })
    }

    /// Writes memory, as [`Qtest::read`] reads it.
    ///
    /// # Errors
    /// Where QEMU does not answer.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), QtestError> {
        let mut command = format!("write {address:#x} {:#x} 0x", bytes.len());
        for byte in bytes {
            // Writing to a string does not fail.
            let _ = write!(command, "{byte:02x}");
        }
        self.ask(&command).map(drop)
    }

    /// Reads 32 bits from an I/O port.
    ///
    /// # Errors
    /// Where QEMU does not answer.
    pub fn port_in(&mut self, port: u16) -> Result<u32, QtestError> {
        let command = format!("inl {port:#x}");
        let answer = self.ask(&command)?;
        let value = answer.strip_prefix("0x");
        let value = value.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        value.ok_or(QtestError::Answer { command, answer })
    }

    /// Writes 32 bits to an I/O port.
    ///
    /// # Errors
    /// Where QEMU does not answer.
    pub fn port_out(&mut self, port: u16, value: u32) -> Result<(), QtestError> {
        self.ask(&format!("outl {port:#x} {value:#x}")).map(drop)
    }

    fn ask(&mut self, command: &str) -> Result<String, QtestError> {
        writeln!(self.0.get_mut(), "{command}")?;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let line = line.trim_end();
            match line.strip_prefix("OK") {
                Some(answer) => return Ok(answer.trim_start().to_owned()),
                // Interrupts come between.
                None if line.starts_with("IRQ ") => {}
                None => {
                    return Err(QtestError::Answer {
                        command: command.to_owned(),
                        answer: line.to_owned(),
                    });
                }
            }
        }
    }
}

/// The bytes of `0x0a1b…`.
fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?;
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}
