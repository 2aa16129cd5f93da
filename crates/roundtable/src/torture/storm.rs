//! Thousands of clients that come back at once after a crash: all are let in, and each gets once what it missed (P3).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::child::{Doors, Site};
use super::{Report, Scale, UNLIMITED};
use crate::line::{ANSWER, Attempt, Line, SOCKET_IO};
use crate::{clock, descriptors};

/// In each room sit so many MegaBot guests, and one AIWM agent with so many connections.
const GUESTS: usize = 10;
const CONNECTIONS: usize = 7;
/// Hive dashboards for each room.
const DASHBOARDS: usize = 8;
const EACH: usize = GUESTS + CONNECTIONS + DASHBOARDS;
/// Agents that are made while everybody is away.
const MADE: usize = 3;
/// How long everything together may take for one client; far above the goal, which a busy machine misses.
const PATIENCE_MS: u64 = 90_000;
const STEP: Duration = Duration::from_millis(PATIENCE_MS);
/// A pause before somebody who was refused tries again.
const AGAIN: Duration = Duration::from_millis(500);
/// Requests to the operator's interface under way at the same time.
const AT_ONCE: usize = 16;

/// A client, while it is connected and while it is not.
struct Client {
    kind: Kind,
    room: usize,
    line: Option<Line>,
    /// MegaBot's session, Hive's number.
    left_off: String,
    refused: usize,
}

#[derive(Clone, Debug)]
enum Kind {
    MegaBot { user: String },
    Aiwm { token: String },
    Hive,
}

/// How one client fared.
struct Fared {
    /// Milliseconds until it had everything it missed.
    back_after: u64,
    refused: usize,
}

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let sockets = usize::try_from(descriptors::raise()).unwrap_or(usize::MAX);
    let wanted = scale.pick(1_000, 10_000);
    let rooms = wanted.min(sockets.saturating_sub(500)) / EACH;
    if rooms < wanted / EACH {
        let told =
            format!("{} instead of {wanted} clients: only {sockets} sockets are allowed", rooms * EACH);
        report.notes.push(told);
    }
    let site = Site::new(dir, &UNLIMITED);
    let server = site.start().await?;
    let clients = gather(&server.doors, rooms).await?;
    report.figure("clients", clients.len(), "");
    server.kill();
    let since = clock::monotonic_ms();
    let server = site.start().await?;
    report.figure("start after the crash", clock::monotonic_ms() - since, "ms");
    say_everywhere(&server.doors, rooms, "missed").await?;
    for number in 0..MADE {
        server.doors.admin("/agents", json!({"agent_id": format!("missed-{number}")})).await?;
    }

    let (told, mut news) = unbounded_channel();
    let busy_before = server.processor_ms()?;
    let mut storm = JoinSet::new();
    let began = clock::monotonic_ms();
    for client in clients {
        let (doors, told) = (server.doors.clone(), told.clone());
        storm.spawn(async move { client.return_to(&doors, began, told).await });
    }
    drop(told);
    let mut back = 0;
    let everybody = tokio::time::timeout(STEP, async {
        while back < rooms * EACH && news.recv().await.is_some() {
            back += 1;
        }
    });
    let in_time = everybody.await.is_ok();
    report.figure("clients that are back", back, "");
    report.figure("server's processor time for it", server.processor_ms()? - busy_before, "ms");
    if !in_time {
        return Err(format!("only {back} clients are back after {} s", STEP.as_secs()).into());
    }
    say_everywhere(&server.doors, rooms, "after").await?;
    server.doors.admin("/agents", json!({"agent_id": "after"})).await?;
    let fared =
        tokio::time::timeout(STEP, storm.join_all()).await.map_err(|_| "somebody never heard the end")?;
    tell(fared, report);
    report.figure("server's memory with all of them", server.memory("VmRSS")? >> 10, "KiB");
    report.figure("server's memory, at most", server.memory("VmHWM")? >> 10, "KiB");
    report.broken.extend(site.faults());
    Ok(())
}

fn tell(fared: Vec<Attempt<Fared>>, report: &mut Report) {
    let (mut times, mut refused, mut twice, mut failed) = (Vec::new(), 0, 0, 0);
    for one in fared {
        match one {
            Ok(fared) => {
                times.push(fared.back_after);
                refused += fared.refused;
                twice += usize::from(fared.refused > 1);
            }
            Err(error) => {
                failed += 1;
                if failed <= 5 {
                    report.broken.push(error.to_string());
                }
            }
        }
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len().saturating_sub(1) * part / 100).copied().unwrap_or_default();
    report.figure("back with everything missed, half of them after", at(50), "ms");
    report.figure("back with everything missed, all after", at(100), "ms");
    report.figure("attempts that were refused", refused, "");
    report.figure("clients that were refused twice", twice, "");
    report.figure("clients that failed", failed, "");
    if twice > 0 {
        report.broken.push(format!("{twice} clients were refused twice"));
    }
}

/// Makes rooms and agents, and lets everybody come in.
async fn gather(doors: &Doors, rooms: usize) -> Attempt<Vec<Client>> {
    let turn = Arc::new(Semaphore::new(AT_ONCE));
    let mut coming = JoinSet::new();
    for room in 0..rooms {
        let (doors, turn) = (doors.clone(), Arc::clone(&turn));
        coming.spawn(async move {
            let _turn = turn.acquire().await?;
            people_of(&doors, room).await
        });
    }
    let mut clients = Vec::new();
    for people in coming.join_all().await {
        clients.extend(people?);
    }
    Ok(clients)
}

async fn people_of(doors: &Doors, room: usize) -> Attempt<Vec<Client>> {
    doors.room(&format!("room-{room}")).await?;
    let agent = format!("agent-{room}");
    doors.admin("/agents", json!({"agent_id": agent})).await?;
    let issued = doors.admin("/tokens", json!({"agent": agent})).await?;
    let token = issued.get("token").and_then(Value::as_str).unwrap_or_default().to_owned();
    let guests = (0..GUESTS).map(|n| Kind::MegaBot { user: format!("guest-{room}-{n}") });
    let agents = (0..CONNECTIONS).map(|_| Kind::Aiwm { token: token.clone() });
    let mut clients = Vec::new();
    for kind in guests.chain(agents).chain((0..DASHBOARDS).map(|_| Kind::Hive)) {
        let mut client = Client { kind, room, line: None, left_off: String::new(), refused: 0 };
        client.come(doors).await?;
        clients.push(client);
    }
    Ok(clients)
}

async fn say_everywhere(doors: &Doors, rooms: usize, word: &str) -> Attempt<()> {
    let turn = Arc::new(Semaphore::new(AT_ONCE));
    let mut saying = JoinSet::new();
    for room in 0..rooms {
        let (doors, turn, word) = (doors.clone(), Arc::clone(&turn), word.to_owned());
        saying.spawn(async move {
            let _turn = turn.acquire().await?;
            doors.say(&format!("room-{room}"), &word).await
        });
    }
    saying.join_all().await.into_iter().collect()
}

impl Client {
    /// Comes in, for the first time or again.
    async fn come(&mut self, doors: &Doors) -> Attempt<()> {
        let resume = |name: &str, value: &str| {
            if value.is_empty() { String::new() } else { format!("&{name}={value}") }
        };
        let (door, path) = match &self.kind {
            Kind::MegaBot { user } => {
                (doors.people, format!("/ws?user_id={user}{}", resume("session_id", &self.left_off)))
            }
            Kind::Aiwm { .. } => (doors.agents, SOCKET_IO.to_owned()),
            Kind::Hive => {
                (doors.agents, format!("/ws?events=agent_created{}", resume("since", &self.left_off)))
            }
        };
        let tcp = TcpStream::connect(door).await?;
        let mut line = Line::over("client", tcp, &format!("ws://{door}{path}"), STEP).await?;
        let room = format!("room-{}", self.room);
        match &self.kind {
            Kind::MegaBot { user } => {
                let first = line.hear().await?.1;
                let session =
                    first.pointer("/payload/session_id").and_then(Value::as_str).unwrap_or_default();
                if self.left_off.is_empty() {
                    self.left_off = session.to_owned();
                    let join = json!({"id": format!("{user}-join"), "type": "session_join", "payload": {"session_id": room}});
                    line.say("", &join).await?;
                    while line.hear().await?.0 != "session_joined" {}
                } else if self.left_off != session {
                    return Err("a session was lost".into());
                }
            }
            Kind::Aiwm { token } => {
                line.enter("/dev/aiwm/chat", &json!({"token": token})).await?;
                while line.hear().await?.0 != "connect" {}
                line.say("conversation:join", &json!({"conversationId": room})).await?;
                while line.hear().await?.0 != ANSWER {}
            }
            Kind::Hive => {
                let first = line.hear().await?.1;
                if self.left_off.is_empty() {
                    let number =
                        first.get("sequence").and_then(Value::as_u64).ok_or("a frame without a number")?;
                    self.left_off = number.to_string();
                }
            }
        }
        self.line = Some(line);
        Ok(())
    }

    /// Comes back, tells so when it has what it missed, and then hears the end.
    async fn return_to(mut self, doors: &Doors, began: u64, told: UnboundedSender<()>) -> Attempt<Fared> {
        self.line = None;
        while let Err(error) = self.come(doors).await {
            self.refused += 1;
            if clock::monotonic_ms() > began + PATIENCE_MS {
                return Err(format!("{:?} does not come back: {error}", self.kind).into());
            }
            tokio::time::sleep(AGAIN).await;
        }
        let due = match self.kind {
            Kind::MegaBot { .. } => 1,
            // Of several connections of one agent the first is told what the agent missed.
            Kind::Aiwm { .. } => 0,
            Kind::Hive => MADE,
        };
        let mut missed = 0;
        while missed < due {
            missed += usize::from(self.hears("missed").await?);
        }
        let back_after = clock::monotonic_ms() - began;
        told.send(())?;
        loop {
            let Some(word) = self.next_word().await? else { continue };
            match word.as_str() {
                "after" => return Ok(Fared { back_after, refused: self.refused }),
                _ if matches!(self.kind, Kind::Aiwm { .. }) => {}
                word => return Err(format!("{:?} heard {word:?} again", self.kind).into()),
            }
        }
    }

    async fn hears(&mut self, word: &str) -> Attempt<bool> {
        Ok(self.next_word().await?.is_some_and(|heard| heard.starts_with(word)))
    }

    /// What is said, or the agent that was made; `None` if it is something else.
    async fn next_word(&mut self) -> Attempt<Option<String>> {
        let line = self.line.as_mut().ok_or("there is no connection")?;
        let came = tokio::time::timeout(STEP, line.next()).await;
        let heard = came.map_err(|_| format!("{:?} hears nothing any more", self.kind))??;
        let path = match (&self.kind, heard.name.as_str()) {
            (Kind::MegaBot { .. }, "chat_receive") => "/payload/content",
            (Kind::Aiwm { .. }, "message:new") => "/content",
            (Kind::Hive, "agent_created") => "/data/agent/id",
            _ => return Ok(None),
        };
        Ok(heard.data.pointer(path).and_then(Value::as_str).map(str::to_owned))
    }
}
