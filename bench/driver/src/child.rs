//! Child processes that never outlive the driver: killed by process id when dropped, on an error, or on a signal.
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM end the run in order, so that the children are stopped.
pub fn stop_on_signals() -> Result<(), String> {
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).map_err(|e| format!("signals: {e}"))
}

/// An error once the run was asked to end.
pub fn go_on() -> Result<(), String> {
    if STOP.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}

/// A running process.
pub struct Running {
    child: Child,
    name: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub fn start(name: &str, mut command: Command) -> Result<Self, String> {
        let child = command.stdin(Stdio::null()).spawn().map_err(|e| format!("{name}: {e}"))?;
        Ok(Running { child, name: name.into() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if the process has ended by itself.
    pub fn alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended with {status}", self.name)),
            Err(e) => Err(format!("{}: {e}", self.name)),
        }
    }

    /// Waits for the line `ready PORT` on standard output.
    pub fn ready(&mut self) -> Result<u16, String> {
        let out = self.child.stdout.take().ok_or("no standard output to read")?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some(port) = line.strip_prefix("ready ").and_then(|p| p.trim().parse().ok()) {
                    let _ = tell.send(port);
                }
            }
        });
        told.recv_timeout(Duration::from_secs(20)).map_err(|_| format!("{} did not become ready", self.name))
    }
}

/// Runs a program to its end and gives its standard output; an error holds what it wrote to standard error.
pub fn output(name: &str, mut command: Command, limit: Duration) -> Result<String, String> {
    let mut running = Running::start(name, {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    })?;
    let (out, err) = (drain(running.child.stdout.take()), drain(running.child.stderr.take()));
    let began = Instant::now();
    let status = loop {
        go_on()?;
        match running.child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() > limit => return Err(format!("{name} took more than {limit:?}")),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(e) => return Err(format!("{name}: {e}")),
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if status.success() { Ok(out) } else { Err(format!("{name}: {}", err.trim())) }
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    })
}
