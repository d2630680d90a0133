//! QEMU's machine protocol over its standard input and output.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A QEMU on two shared cores, which emulates its processor, starts in seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why QEMU did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// It did not start, or is gone; with what it wrote to standard error.
    #[error("QEMU ended:\n{0}")]
    Ended(String),
    /// It refused the command.
    #[error("{command}: {answer}")]
    Refused {
        /// What it was asked.
        command: String,
        /// Its error.
        answer: Value,
    },
    /// It says nothing.
    #[error("{0}: QEMU does not answer")]
    Silent(String),
    /// The pipe.
    #[error("QEMU's machine protocol: {0}")]
    Io(#[from] io::Error),
}

/// What a message of QEMU says to the last command: its value or its error; nothing, where it is the greeting or an event,
/// which come between.
#[must_use]
pub fn outcome(mut message: Value) -> Option<Result<Value, Value>> {
    if let Some(error) = message.get_mut("error") {
        return Some(Err(error.take()));
    }
    message.get_mut("return").map(|value| Ok(value.take()))
}

/// A running QEMU. It is ended with this value.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<Value>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Qemu {
    /// Starts a QEMU that was given `-qmp stdio`, and waits until its machine is there.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(command: &mut Command) -> Result<Self, QmpError> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(commands), Some(output), Some(mut errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("no pipes").into());
        };
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(answer) = serde_json::from_str(&line) else {
                    continue;
                };
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was written until the pipe broke is what there is to show.
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let mut qemu = Qemu {
            child,
            commands,
            answers,
            errors: Some(errors),
        };
        qemu.execute("qmp_capabilities", &json!({}))?;
        Ok(qemu)
    }

    /// Runs a command and returns what it returns.
    ///
    /// # Errors
    /// Where QEMU refuses, ends or does not answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        let message = json!({"execute": command, "arguments": arguments});
        // A QEMU that is gone is noticed below, where its last words are read.
        let _ = writeln!(self.commands, "{message}");
        loop {
            let answer = match self.answers.recv_timeout(PATIENCE) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) => return Err(QmpError::Silent(command.to_owned())),
            };
            if let Some(outcome) = outcome(answer) {
                return outcome.map_err(|answer| QmpError::Refused {
                    command: command.to_owned(),
                    answer,
                });
            }
        }
    }

    /// The process, which is QEMU itself: what realises the container becomes it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ended(&mut self) -> QmpError {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.errors.take().and_then(|thread| thread.join().ok());
        QmpError::Ended(said.unwrap_or_default())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
