//! Running other programs: where the project is, what to call, and what came of it.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// The project's top folder. Cargo tells it at run time, so one build of this program never points at another checkout.
pub fn root() -> Result<PathBuf, String> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").ok_or("run this through cargo: `cargo x …`")?;
    let top = Path::new(&manifest).parent().ok_or("xtask has no parent folder")?;
    Ok(top.to_path_buf())
}

/// Where cargo puts what it builds: `CARGO_TARGET_DIR`, else `target` in the project's top folder.
pub fn target_dir(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// A command that starts cargo in the top folder.
pub fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(args);
    command
}

/// Whether a program can be started at all; its output is thrown away.
pub fn available(program: impl AsRef<OsStr>, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command on this terminal; an exit status other than 0 is an error that names the command.
pub fn run(command: &mut Command) -> Result<(), String> {
    let name = shown(command);
    let status = command.status().map_err(|error| format!("cannot start `{name}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` ended with {status}")) }
}

/// Runs a command, shows its output as it comes, and also returns it: (ended well, standard output and error).
pub fn run_and_read(command: &mut Command) -> Result<(bool, String), String> {
    let name = shown(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{name}`: {error}"))?;
    let seen = Arc::new(Mutex::new(String::new()));
    let copies = [
        child.stdout.take().map(|pipe| copy(pipe, std::io::stdout(), Arc::clone(&seen))),
        child.stderr.take().map(|pipe| copy(pipe, std::io::stderr(), Arc::clone(&seen))),
    ];
    let status = child.wait().map_err(|error| format!("`{name}`: {error}"))?;
    for copy in copies.into_iter().flatten() {
        copy.join().map_err(|_| format!("`{name}`: its output could not be read"))?;
    }
    let text = seen.lock().map_err(|_| format!("`{name}`: its output could not be read"))?.clone();
    Ok((status.success(), text))
}

fn copy<R, W>(from: R, mut to: W, seen: Arc<Mutex<String>>) -> thread::JoinHandle<()>
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            // A closed terminal is no reason to stop reading: the child would block on a full pipe.
            let _closed = to.write_all(&line).and_then(|()| to.flush());
            if let Ok(mut seen) = seen.lock() {
                seen.push_str(&String::from_utf8_lossy(&line));
            }
            line.clear();
        }
    })
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_both_streams_is_read() {
        let (well, text) =
            run_and_read(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap();
        assert!(!well);
        assert!(text.contains("one\n") && text.contains("two\n"), "{text}");
    }

    #[test]
    fn a_failing_command_is_named() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(error.contains("sh -c exit 3"), "{error}");
    }

    #[test]
    fn a_missing_program_is_not_available() {
        assert!(!available("no-such-program-here", &["--version"]));
        assert!(available("true", &[]));
    }
}
