//! How many sockets and files this process may open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Takes as many as the system allows, for this process and those it starts; how many that is. Systems begin with 1,024, which
/// a room of clients uses up.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
