//! The signals that end a container.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears SIGTERM and SIGINT. The first process of a container hears no signal that it has not asked for.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Hears them from now on.
    ///
    /// # Errors
    /// What the system said.
    pub fn new() -> io::Result<Self> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one.
    pub async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What waits for signals, and for calls: one thread is enough for a few, and takes the least memory.
///
/// # Errors
/// What the system said.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
}

/// Waits for one, and does nothing meanwhile; not longer than `at_most`. Returns whether there was one.
///
/// # Errors
/// What the system said.
pub fn wait(at_most: Option<Duration>) -> io::Result<bool> {
    runtime()?.block_on(async {
        let mut stop = Stop::new()?;
        let Some(at_most) = at_most else {
            stop.told().await;
            return Ok(true);
        };
        Ok(tokio::time::timeout(at_most, stop.told()).await.is_ok())
    })
}
