//! Limits of the operating system: how long a child's files may get.

use super::child::Server;
use crate::line::Attempt;

/// Lets no file of a server get longer than so many bytes, or as long as before: the least privileged way to a disk that
/// takes no more.
#[cfg(target_os = "linux")]
pub fn limit_files(server: &Server, bytes: Option<u64>) -> Attempt<()> {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let pid = i32::try_from(server.pid).ok().and_then(Pid::from_raw).ok_or("the server has no number")?;
    // The hard limit stays, so that it can be taken back.
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum })?;
    Ok(())
}

/// Only Linux lets a parent change a limit of its running child.
#[cfg(not(target_os = "linux"))]
pub fn limit_files(_: &Server, _: Option<u64>) -> Attempt<()> {
    Err("a full disk can be played on Linux only".into())
}
