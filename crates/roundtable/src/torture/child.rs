//! A server that is attacked: a child process of this program's own executable, killed when it is dropped.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::admin::records::Seen;
use crate::admin::wire::History;
use crate::auth::first_start::FirstCredentials;
use crate::cli::place::Place;
use crate::clock;
use crate::config::BareWs;
use crate::line::{Attempt, post, request};

/// How long a start may take: the log of a long run is read.
const START: Duration = Duration::from_secs(60);
/// The default listeners, on free ports: agents, people, nodes.
const LISTENERS: [BareWs; 3] = [BareWs::Hive, BareWs::MegaBot, BareWs::Auto];
/// Records of one page of a room's history.
const PAGE: usize = 200;

/// Where a server keeps its data and how it is started, over its restarts.
#[derive(Clone, Debug)]
pub struct Site {
    dir: PathBuf,
    settings: Vec<String>,
    /// The file by which the server's wall clock is set wrong.
    wall_clock: Option<PathBuf>,
}

/// A server process.
pub struct Server {
    child: Child,
    /// Its number.
    pub pid: u32,
    /// How to reach it.
    pub doors: Doors,
}

/// Addresses and credentials of a server.
#[derive(Clone)]
pub struct Doors {
    /// MXF, AIWM and Hive.
    pub agents: SocketAddr,
    /// MegaBot.
    pub people: SocketAddr,
    /// Open-A.G.I.
    pub nodes: SocketAddr,
    /// What its first start drew.
    pub credentials: FirstCredentials,
}

impl Site {
    /// A site in an empty folder. `settings` are `section.key=value`.
    pub fn new(dir: &Path, settings: &[&str]) -> Self {
        Self {
            dir: dir.to_owned(),
            settings: settings.iter().map(ToString::to_string).collect(),
            wall_clock: None,
        }
    }

    /// Sets the wall clock of the server wrong by so many milliseconds, from now on or its next start on.
    pub fn set_clock(&mut self, wrong_by_ms: i64) -> Attempt<()> {
        let file = self.dir.join("wall-clock");
        // At once for whoever reads it meanwhile: never half a number.
        let new = self.dir.join("wall-clock.new");
        std::fs::write(&new, wrong_by_ms.to_string())?;
        std::fs::rename(new, &file)?;
        self.wall_clock = Some(file);
        Ok(())
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What the server wrote to its standard error, over all its starts.
    fn diary(&self) -> PathBuf {
        self.dir.join("stderr.log")
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(&self) -> Attempt<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--json", "--data"]).arg(self.data());
        for bare_ws in LISTENERS {
            command.args(["--listen", &format!("127.0.0.1:0={}", bare_ws.as_str())]);
        }
        for setting in self.settings.iter().map(String::as_str).chain(["logging.level=warn"]) {
            command.args(["--set", setting]);
        }
        command.envs(self.wall_clock.iter().map(|file| (clock::TEST_WALL_CLOCK, file)));
        let diary = File::options().create(true).append(true).open(self.diary())?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(diary).spawn()?;
        let (pid, mut starting) = (child.id(), Starting(Some(child)));
        let out = starting.0.as_mut().and_then(|child| child.stdout.take()).ok_or("no standard output")?;
        let first = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let told =
            tokio::time::timeout(START, first).await.map_err(|_| "the server does not get ready")???;
        if told.is_empty() {
            return Err(
                format!("the server did not start: {}", std::fs::read_to_string(self.diary())?).into()
            );
        }
        let place = Place::read(&self.data())?.ok_or("the server noted no listeners")?;
        let addresses: Vec<SocketAddr> = place.listeners.iter().map(|bound| bound.address).collect();
        let [agents, people, nodes] = *addresses.as_slice() else { return Err("a port is not open".into()) };
        let credentials = FirstCredentials::read(&self.data())?.ok_or("there are no credentials")?;
        let child = starting.0.take().ok_or("the server is gone")?;
        Ok(Server { child, pid, doors: Doors { agents, people, nodes, credentials } })
    }

    /// Lines in which the server tells of a fault in its own program.
    pub fn faults(&self) -> Vec<String> {
        let diary = std::fs::read_to_string(self.diary()).unwrap_or_default();
        let of_a_fault = |line: &&str| line.contains("panicked at") || line.contains("overflowed its stack");
        diary.lines().filter(of_a_fault).map(str::to_owned).collect()
    }
}

/// A child that is not ready yet.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

/// `kill -9`, and waits until the system has taken the process away.
fn end(child: &mut Child) {
    // A process that has ended by itself needs no end.
    let _ = child.kill();
    let _ = child.wait();
}

impl Server {
    /// `kill -9`.
    pub fn kill(mut self) {
        end(&mut self.child);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// A figure of `/proc/PID/status`, such as `VmRSS`, in bytes.
    pub fn memory(&self, figure: &str) -> Attempt<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        let kib: u64 =
            line.and_then(|text| text.split_whitespace().next()).ok_or("no such figure")?.parse()?;
        Ok(kib << 10)
    }

    /// Processor time it has used, in milliseconds.
    pub fn processor_ms(&self) -> Attempt<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // Behind the program's name, which may have spaces: fields 14 and 15 of the whole, in hundredths of a second.
        let rest = stat.rsplit_once(')').ok_or("no such figure")?.1;
        let times = rest.split_whitespace().skip(11).take(2);
        Ok(times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Doors {
    /// Asks the operator's interface.
    pub async fn admin(&self, path: &str, body: Value) -> Attempt<Value> {
        post(format!("http://{}/admin/v1{path}", self.agents), &self.credentials.admin_token, body).await
    }

    /// A room that keeps what is said.
    pub async fn room(&self, room: &str) -> Attempt<()> {
        self.admin("/rooms", json!({"room": room})).await.map(|_| ())
    }

    /// Says something as the administrator.
    pub async fn say(&self, room: &str, text: &str) -> Attempt<()> {
        self.admin(&format!("/rooms/{room}/messages"), json!({"content": text})).await.map(|_| ())
    }

    /// The first word of every message of a room, oldest first.
    pub async fn history(&self, room: &str) -> Attempt<Vec<String>> {
        let mut texts = Vec::new();
        let mut before = String::new();
        loop {
            let path = format!("/admin/v1/rooms/{room}/messages?limit={PAGE}{before}");
            let url = format!("http://{}{path}", self.agents);
            let (status, page) = request("GET", url, &self.credentials.admin_token, None).await?;
            if status != 200 {
                return Err(format!("GET {path}: {status} {page}").into());
            }
            let page: History = serde_json::from_value(page)?;
            let text =
                |seen: &Seen| seen.event.pointer("/content/text").and_then(Value::as_str).map(first_word);
            texts.extend(page.messages.iter().rev().filter_map(text));
            match page.next {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        texts.reverse();
        Ok(texts)
    }

    /// How many connections are open.
    pub async fn connections(&self) -> Attempt<usize> {
        let url = format!("http://{}/admin/v1/connections", self.agents);
        let (status, answer) = request("GET", url, &self.credentials.admin_token, None).await?;
        let listed = answer.get("connections").and_then(Value::as_array);
        Ok(listed.ok_or_else(|| format!("connections: {status} {answer}"))?.len())
    }

    /// What is wrong with the log's hash chain; nothing if it is sound.
    pub async fn damage(&self) -> Attempt<Vec<String>> {
        let checked = self.admin("/verify", json!({})).await?;
        let workspaces = checked.get("workspaces").and_then(Value::as_array).cloned().unwrap_or_default();
        let broken = workspaces.iter().filter(|workspace| workspace.get("broken") != Some(&Value::Null));
        Ok(broken.map(|workspace| format!("the log is damaged: {workspace}")).collect())
    }
}

/// What a message is known by; the rest only makes it long.
pub fn first_word(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}
