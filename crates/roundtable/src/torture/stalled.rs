//! Readers that stop reading, among others that do not: who reads gets everything in order, slow as it may be, and the quick in
//! time; who takes nothing is cut after a while and can come back; the server's memory stays bounded (P3, P6).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::child::{Doors, Server, Site};
use super::{Report, Scale, UNLIMITED, narrow};
use crate::line::{Attempt, Line, request};
use crate::{clock, descriptors};

const ROOM: &str = "hall";
/// How every message begins; its number follows, and when it was said.
const MARK: &str = "\"content\":\"load-";
/// What may wait for all clients together, far less than what all their queues could hold; and so much more for each.
const ALL_QUEUES: &str = "limits.all_queues=16MiB";
const QUEUES: u64 = 16 << 20;
const QUEUE_EACH: u64 = 32 << 10;
/// Characters of a message.
const SIZE: usize = 8_000;
/// Connections of each guest: the list of who is there stays short.
const SHARED: usize = 50;
/// How long a step may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(90);
/// A pause after each message of somebody who reads slowly: three or four times as long as the quick take.
const DAWDLE: Duration = Duration::from_millis(100);
/// The slowest that a delivery to somebody who reads may be.
const SLOWEST_MS: u64 = 10_000;
/// What the server may take above what it took before the load, and so much for each connection.
const MEMORY: u64 = 64 << 20;
const MEMORY_EACH: u64 = 32 << 10;

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let sockets = usize::try_from(descriptors::raise()).unwrap_or(usize::MAX);
    let wanted = scale.pick(200, 1_000);
    let each = wanted.min(sockets.saturating_sub(200) / 2);
    if each < wanted {
        report
            .notes
            .push(format!("{each} instead of {wanted} of each kind: only {sockets} sockets are allowed"));
    }
    let (queue, messages): (usize, u64) = scale.pick((256 << 10, 120), (1 << 20, 300));
    let limit = format!("limits.queue={queue}");
    let mut settings = UNLIMITED.to_vec();
    settings.extend([limit.as_str(), ALL_QUEUES, "limits.stall_timeout=5s", "websocket.close_timeout=1s"]);
    let site = Site::new(dir, &settings);
    let mut server = site.start().await?;
    server.doors.room(ROOM).await?;
    let readers = come(&server.doors, each, Kind::Quick).await?;
    let stalled = come(&server.doors, each, Kind::Stalled).await?;
    let slow = come(&server.doors, each / 10, Kind::Slow).await?;
    let before = server.memory("VmRSS")?;

    let got = Arc::new(AtomicU64::new(0));
    let mut reading = JoinSet::new();
    for guest in readers {
        reading.spawn(read(guest, messages, Arc::clone(&got)));
    }
    let mut dawdling = JoinSet::new();
    for guest in slow {
        // Nobody waits for them, but they are to get everything too.
        dawdling.spawn(read(guest, messages, Arc::default()));
    }
    talk(&server.doors, messages, each as u64, &got).await?;
    weigh_queues(&server.doors, report).await?;
    let mut delays = Vec::new();
    let all = tokio::time::timeout(PATIENCE, reading.join_all()).await;
    for outcome in all.map_err(|_| "somebody who reads did not get everything")? {
        match outcome {
            Ok(of_one) => delays.extend(of_one),
            Err(error) => report.broken.push(format!("somebody who reads: {error}")),
        }
    }
    let late = tokio::time::timeout(PATIENCE, dawdling.join_all()).await;
    let late = late.map_err(|_| "somebody who reads slowly did not get everything")?;
    let all_of_it = late.iter().filter(|outcome| outcome.is_ok()).count();
    report.figure("clients that read slowly and got everything", all_of_it, "");
    let failed = late.into_iter().filter_map(Result::err);
    report.broken.extend(failed.map(|error| format!("somebody who reads slowly: {error}")));
    delays.sort_unstable();
    let at =
        |part: usize| delays.get(delays.len().saturating_sub(1) * part / 1_000).copied().unwrap_or_default();
    let highest = server.memory("VmHWM")?.saturating_sub(before);
    let bound = MEMORY + MEMORY_EACH * 2 * each as u64;
    report.figure("clients that read", each, "");
    report.figure("clients that do not", each, "");
    report.figure("deliveries to those that read", delays.len(), "");
    report.figure("delay, middle", at(500), "ms");
    report.figure("delay, 99 %", at(990), "ms");
    report.figure("delay, longest", at(1_000), "ms");
    report.figure("limit of a mailbox", queue >> 10, "KiB");
    report.figure("server's memory above that before the load, at most", highest >> 10, "KiB");
    report.figure("bound for it", bound >> 10, "KiB");
    if at(1_000) > SLOWEST_MS {
        report.broken.push(format!("a delivery took {} ms beside stalled readers", at(1_000)));
    }
    if highest > bound {
        report.broken.push(format!("the server took {} KiB more under load", highest >> 10));
    }
    afterwards(&mut server, stalled, messages, report).await?;
    report.broken.extend(site.faults());
    Ok(())
}

/// Those that stalled: all are cut, what reached them is in order, and they get the rest when they come back.
async fn afterwards(
    server: &mut Server,
    stalled: Vec<Guest>,
    messages: u64,
    report: &mut Report,
) -> Attempt<()> {
    wait_until_cut(&server.doors).await?;
    let (mut told, mut cut, mut resumed) = (0_usize, 0_usize, 0_usize);
    let sample = stalled.len() / 10;
    for (number, guest) in stalled.into_iter().enumerate() {
        let Guest { mut line, query, session, .. } = guest;
        let mut next = 1;
        let why = loop {
            let came = tokio::time::timeout(PATIENCE, line.message()).await;
            match came.map_err(|_| "a stalled reader was never cut")? {
                Ok(Message::Text(text)) => match number_of(&text) {
                    Some((n, _)) if n == next => next += 1,
                    Some((n, _)) => {
                        break Err(format!("a stalled reader got message {n} in place of {next}"));
                    }
                    None => {}
                },
                Ok(Message::Close(frame)) => break Ok(frame.map(|frame| u16::from(frame.code))),
                Ok(_) => {}
                // Reset, or at an end in the middle of a frame.
                Err(_) => break Ok(None),
            }
        };
        match why {
            Ok(Some(1013)) => told += 1,
            Ok(None) => cut += 1,
            Ok(Some(code)) => report.broken.push(format!("a stalled reader was closed with {code}")),
            Err(error) => report.broken.push(error),
        }
        if next > messages {
            report.broken.push("a reader that did not read got everything: nobody was stalled".into());
        }
        if number < sample {
            resumed += usize::from(resume(&server.doors, &query, &session, messages).await?);
        }
        if report.broken.len() > 5 {
            break;
        }
    }
    report.figure("stalled, closed with 1013", told, "");
    report.figure("stalled, cut", cut, "");
    report.figure("of them came back and got the rest", resumed, "");
    if resumed < sample {
        report.broken.push(format!("{} of {sample} who came back did not get the rest", sample - resumed));
    }
    match server.ended() {
        Some(how) => Err(format!("the server ended: {how}").into()),
        None => Ok(()),
    }
}

/// All queues together are bounded, however many are full.
async fn weigh_queues(doors: &Doors, report: &mut Report) -> Attempt<()> {
    let open = connections(doors).await?;
    let waiting = open.iter().filter_map(|connection| connection.get("queued_bytes")?.as_u64()).sum::<u64>();
    report.figure("waiting in all queues together", waiting >> 10, "KiB");
    if waiting > QUEUES + QUEUE_EACH * open.len() as u64 {
        report.broken.push(format!("{} KiB wait in all queues together", waiting >> 10));
    }
    Ok(())
}

/// All open connections, as the operator sees them.
async fn connections(doors: &Doors) -> Attempt<Vec<Value>> {
    let url = format!("http://{}/admin/v1/connections", doors.agents);
    let (_, open) = request("GET", url, &doors.credentials.admin_token, None).await?;
    Ok(open.get("connections").and_then(Value::as_array).ok_or("no list of connections")?.clone())
}

/// Waits until the server has ended the connections of all that take nothing.
async fn wait_until_cut(doors: &Doors) -> Attempt<()> {
    let since = clock::monotonic_ms();
    let stalled = |connection: &&Value| {
        let who = connection.pointer("/sessions/0/principal").and_then(Value::as_str);
        who.is_some_and(|who| who.starts_with("guest:stalled"))
    };
    loop {
        match connections(doors).await?.iter().filter(stalled).count() {
            0 => return Ok(()),
            left if clock::monotonic_ms() > since + PATIENCE.as_millis() as u64 => {
                return Err(format!("{left} that take nothing are never cut").into());
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// How somebody reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What comes, at once.
    Quick,
    /// At a modest pace, with little room in between.
    Slow,
    /// Not at all.
    Stalled,
}

/// One connection.
struct Guest {
    kind: Kind,
    line: Line,
    query: String,
    session: String,
}

/// Lets so many guests into the room.
async fn come(doors: &Doors, count: usize, kind: Kind) -> Attempt<Vec<Guest>> {
    let mut coming = JoinSet::new();
    for number in 0..count {
        let doors = doors.clone();
        coming.spawn(async move { enter(&doors, number, kind).await });
        if number % 50 == 49 {
            // Not a storm: that is another attack.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let came =
        tokio::time::timeout(PATIENCE, coming.join_all()).await.map_err(|_| "guests could not come in")?;
    came.into_iter().collect()
}

async fn enter(doors: &Doors, number: usize, kind: Kind) -> Attempt<Guest> {
    let (name, tcp) = match kind {
        Kind::Quick => ("quick", TcpStream::connect(doors.people).await?),
        Kind::Slow => ("slow", narrow::connect(doors.people).await?),
        Kind::Stalled => ("stalled", narrow::connect(doors.people).await?),
    };
    let query = format!("user_id={name}{}", number / SHARED);
    let mut line = Line::over("guest", tcp, &format!("ws://{}/ws?{query}", doors.people), PATIENCE).await?;
    let session = established(&mut line).await?;
    let join =
        json!({"id": format!("j-{name}-{number}"), "type": "session_join", "payload": {"session_id": ROOM}});
    line.say("", &join).await?;
    while line.hear().await?.0 != "session_joined" {}
    Ok(Guest { kind, line, query, session })
}

/// The session that a connection was given.
async fn established(line: &mut Line) -> Attempt<String> {
    let (_, first) = line.hear().await?;
    let session = first.pointer("/payload/session_id").and_then(Value::as_str);
    Ok(session.ok_or_else(|| format!("no session: {first}"))?.to_owned())
}

/// Reads everything; how long each message took, in milliseconds. Fails at a gap.
async fn read(mut guest: Guest, messages: u64, got: Arc<AtomicU64>) -> Attempt<Vec<u64>> {
    let mut delays = Vec::new();
    while (delays.len() as u64) < messages {
        let Message::Text(text) = guest.line.message().await? else { continue };
        let Some((number, at)) = number_of(&text) else { continue };
        if number != delays.len() as u64 + 1 {
            return Err(format!("message {number} came in place of {}", delays.len() + 1).into());
        }
        delays.push(clock::monotonic_ms().saturating_sub(at));
        if guest.kind == Kind::Slow {
            tokio::time::sleep(DAWDLE).await;
        }
        got.fetch_add(1, Ordering::Relaxed);
    }
    Ok(delays)
}

/// Number and time of a message.
fn number_of(frame: &str) -> Option<(u64, u64)> {
    let (_, rest) = frame.split_once(MARK)?;
    let mut parts = rest.split(['-', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Says everything, at most four messages ahead of the readers.
async fn talk(doors: &Doors, messages: u64, readers: u64, got: &AtomicU64) -> Attempt<()> {
    let mut line = Line::plain("speaker", &format!("ws://{}/ws?user_id=speaker", doors.people)).await?;
    established(&mut line).await?;
    line.say("", &json!({"id": "j", "type": "session_join", "payload": {"session_id": ROOM}})).await?;
    line.wait_for("session_joined").await?;
    let filling = "x".repeat(SIZE);
    let since = clock::monotonic_ms();
    for number in 1..=messages {
        while got.load(Ordering::Relaxed) < (number.saturating_sub(4)) * readers {
            if clock::monotonic_ms() > since + PATIENCE.as_millis() as u64 {
                return Err(format!(
                    "after {} s readers have {} messages",
                    PATIENCE.as_secs(),
                    got.load(Ordering::Relaxed)
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let content = format!("load-{number}-{} {filling}", clock::monotonic_ms());
        let payload = json!({"session_id": ROOM, "content": content});
        line.say("", &json!({"id": format!("c{number}"), "type": "chat_send", "payload": payload})).await?;
    }
    Ok(())
}

/// Comes back and reads up to the last message; whether everything came, from where it was proven to have arrived on.
async fn resume(doors: &Doors, query: &str, session: &str, messages: u64) -> Attempt<bool> {
    let url = format!("ws://{}/ws?{query}&session_id={session}", doors.people);
    let mut line = Line::plain("returner", &url).await?;
    if established(&mut line).await? != session {
        return Ok(false);
    }
    let mut last = None;
    while last != Some(messages) {
        let came = tokio::time::timeout(PATIENCE, line.message()).await;
        let Message::Text(text) = came.map_err(|_| "the rest does not come")?? else { continue };
        let Some((number, _)) = number_of(&text) else { continue };
        if last.is_some_and(|last| number != last + 1) {
            return Ok(false);
        }
        last = Some(number);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn number_and_time_of_a_message_are_read_without_parsing_it() {
        let frame = r#"{"type":"chat_receive","payload":{"content":"load-17-4711 xxx","sender":"user"}}"#;
        assert_eq!(number_of(frame), Some((17, 4_711)));
        assert_eq!(number_of(r#"{"type":"pong"}"#), None);
    }
}
