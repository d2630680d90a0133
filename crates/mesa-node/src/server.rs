//! The server, from its start to SIGTERM.

use std::io;
use std::path::PathBuf;

use manifests::console::Failure;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::log::{self, Level};
use crate::service::Hook;
use crate::socket::{Socket, SocketError};
use crate::stop::{self, Stop};

/// Why the server ends before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// What a server needs of the system.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// A listener has ended.
    #[error("nobody listens any more")]
    Ended(#[source] Option<tonic::transport::Error>),
}

impl Failure for ServerError {
    fn fix(&self) -> Option<String> {
        match self {
            ServerError::Socket(error) => error.fix(),
            ServerError::Start(_) | ServerError::Ended(_) => None,
        }
    }
}

/// Serves on sockets until SIGTERM, or SIGINT: then it ends at once. The sockets' files go with it.
///
/// # Errors
/// It cannot begin, or nobody listens any more.
pub fn serve(hook: &Hook, sockets: &[PathBuf]) -> Result<(), ServerError> {
    let runtime = stop::runtime().map_err(ServerError::Start)?;
    runtime.block_on(run(hook, sockets))
}

async fn run(hook: &Hook, sockets: &[PathBuf]) -> Result<(), ServerError> {
    // Before there is a socket.
    let mut stop = Stop::new().map_err(ServerError::Start)?;
    let mut files = Vec::new();
    let mut servers = JoinSet::new();
    for path in sockets {
        let (listener, file) = Socket::listen(path)?.into_parts();
        files.push(file);
        listener.set_nonblocking(true).map_err(ServerError::Start)?;
        let listener = UnixListener::from_std(listener).map_err(ServerError::Start)?;
        let calls = UnixListenerStream::new(listener);
        servers.spawn(Server::builder().serve_with_incoming(hook.clone(), calls));
        log::say(Level::Info, &format!("listens on {}", path.display()));
    }
    tokio::select! {
        () = stop.told() => {
            log::say(Level::Info, "ends, as it was told to");
            Ok(())
        }
        ended = servers.join_next() => {
            Err(ServerError::Ended(ended.and_then(Result::ok).and_then(Result::err)))
        }
    }
}
