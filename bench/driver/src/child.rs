//! Child processes that never outlive the driver: killed by process id when dropped, on an error, or on a signal.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
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
        self.kill();
    }
}

impl Running {
    /// Its standard input is what the command says.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, String> {
        let child = command.spawn().map_err(|e| format!("{name}: {e}"))?;
        Ok(Running { child, name: name.into() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until somebody listens on this address.
    pub fn reachable(&mut self, addr: &str) -> Result<(), String> {
        let began = Instant::now();
        while TcpStream::connect(addr).is_err() {
            self.alive()?;
            go_on()?;
            if began.elapsed() > Duration::from_secs(20) {
                return Err(format!("{} does not listen on {addr}", self.name));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
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
        let line = lines(out)
            .recv_timeout(Duration::from_secs(20))
            .map_err(|_| format!("{} did not become ready", self.name))?;
        let port = line.strip_prefix("ready ").and_then(|p| p.trim().parse().ok());
        port.ok_or_else(|| format!("{} said {line:?} instead of its port", self.name))
    }

    /// Waits for the end, doing `meanwhile` again and again; an error holds what `err` read, if it ended badly.
    fn end(
        &mut self,
        limit: Duration,
        err: JoinHandle<String>,
        mut meanwhile: impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        let status = loop {
            go_on()?;
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() > limit => {
                    return Err(format!("{} took more than {limit:?}", self.name));
                }
                Ok(None) => meanwhile()?,
                Err(e) => return Err(format!("{}: {e}", self.name)),
            }
        };
        if status.success() {
            return Ok(());
        }
        Err(format!("{}: {}", self.name, err.join().unwrap_or_default().trim()))
    }
}

/// The lines of a pipe, which is read to its end whether anybody wants them or not.
fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    told
}

/// Runs a program to its end and gives its standard output; an error holds what it wrote to standard error.
pub fn output(name: &str, mut command: Command, limit: Duration) -> Result<String, String> {
    let mut running =
        Running::start(name, command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (out, err) = (drain(running.child.stdout.take()), drain(running.child.stderr.take()));
    running.end(limit, err, || {
        std::thread::sleep(Duration::from_millis(10));
        Ok(())
    })?;
    Ok(out.join().unwrap_or_default())
}

/// The same for a program that asks: each line `cut` is answered on its standard input with the line that `cut` returns.
pub fn conversation(
    name: &str,
    mut command: Command,
    limit: Duration,
    mut cut: impl FnMut() -> Result<String, String>,
) -> Result<String, String> {
    let mut running =
        Running::start(name, command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let err = drain(running.child.stderr.take());
    let mut input = running.child.stdin.take().ok_or("no standard input to write")?;
    let lines = lines(running.child.stdout.take().ok_or("no standard output to read")?);
    let mut text = String::new();
    running.end(limit, err, || {
        match lines.recv_timeout(Duration::from_millis(10)) {
            Ok(line) if line == "cut" => {
                let answer = cut()?;
                writeln!(input, "{answer}").map_err(|e| format!("{name} does not listen: {e}"))?;
            }
            Ok(line) => text.push_str(&line),
            Err(_) => {}
        }
        Ok(())
    })?;
    text.extend(lines.iter());
    Ok(text)
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    })
}
