//! Clients that missed far more than any queue holds, in messages of any size: each gets all of it over one connection, at a
//! modest pace, by polling and by WebSocket, while others talk (P3, P6).

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::child::{Doors, Server, Site};
use super::narrow::{self, Poller};
use super::person::{Came, Person};
use super::{Report, Scale, UNLIMITED};
use crate::clock;
use crate::line::{Attempt, Heard, Line};

const ROOM: &str = "archive";
/// Characters of the messages, in turn: as large as a message may be, and as small.
const SIZES: [usize; 5] = [900_000, 10, 120_000, 900_000, 0];
/// A pause between two things that are said while others catch up.
const BREATH: Duration = Duration::from_millis(50);
/// How long one client may take for everything.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the server may take above what it took before, and so much for each client: its queue, and twice the largest message.
const MEMORY: u64 = 32 << 20;
const MEMORY_EACH: u64 = 4 << 20;

/// How somebody comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    WebSocket,
    Polling,
}

/// A connection of one or the other kind.
enum Way {
    Socket(Box<Line>),
    Polls(Box<Poller>),
}

impl Way {
    async fn next(&mut self) -> Attempt<Heard> {
        match self {
            Self::Socket(line) => {
                let heard = line.next().await?;
                narrow::take_time(content_of(&heard.data).map_or(0, str::len)).await;
                Ok(heard)
            }
            Self::Polls(poller) => poller.next().await,
        }
    }
}

fn content_of(data: &Value) -> Option<&str> {
    data.get("content").or_else(|| data.pointer("/payload/content")).and_then(Value::as_str)
}

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let (missed, live): (u64, u64) = (scale.pick(10, 100), scale.pick(60, 400));
    let site = Site::new(dir, &UNLIMITED);
    let mut server = site.start().await?;
    let doors = server.doors.clone();
    doors.room(ROOM).await?;
    let mut speaker = Person::mxf(&doors, "speaker", ROOM).await?;
    let tcp = TcpStream::connect(speaker.door(&doors)).await?;
    let (mut line, _) = speaker.come(&doors, tcp).await?;
    let away = come_and_go(&doors, (&mut speaker, &mut line)).await?;
    let mut bytes = 0;
    for number in 1..=missed {
        let size = SIZES.get(number as usize % SIZES.len()).copied().unwrap_or_default();
        bytes += size as u64;
        say(&mut speaker, &mut line, number, size).await?;
    }
    let before = server.memory("VmRSS")?;
    let mut returning = JoinSet::new();
    let count = away.len();
    for (person, by) in away {
        let doors = doors.clone();
        returning.spawn(async move {
            let who = format!(
                "{} by {}",
                person.dialect(),
                if by == By::Polling { "polling" } else { "WebSocket" }
            );
            let read =
                tokio::time::timeout(PATIENCE, return_and_read(person, by, &doors, missed + live)).await;
            read.unwrap_or_else(|_| Err("it did not get everything in time".into()))
                .map_err(|error| format!("{who}: {error}"))
        });
    }
    let (highest, fared) = tokio::select! {
        ended = go_on(&mut speaker, &mut line, missed + 1..=missed + live) => match ended? {},
        all = watch(&server, returning) => all?,
    };
    let took = fared.iter().filter_map(|one| one.as_ref().ok()).max().copied().unwrap_or_default();
    report.broken.extend(fared.into_iter().filter_map(Result::err));
    let (highest, bound) = (highest.saturating_sub(before), MEMORY + MEMORY_EACH * count as u64);
    report.figure("clients that missed something", count, "");
    report.figure("messages that each missed", missed, "");
    report.figure("bytes of them", bytes >> 10, "KiB");
    report.figure("said meanwhile", live, "");
    report.figure("longest until somebody had everything", took, "ms");
    report.figure("server's memory above that before, at most", highest >> 10, "KiB");
    report.figure("bound for it", bound >> 10, "KiB");
    if highest > bound {
        report.broken.push(format!("the server took {} KiB more for those that came back", highest >> 10));
    }
    if let Some(how) = server.ended() {
        report.broken.push(format!("the server ended: {how}"));
    }
    report.broken.extend(site.faults());
    Ok(())
}

/// Says something and waits until it is in the log.
async fn say(speaker: &mut Person, line: &mut Line, number: u64, size: usize) -> Attempt<()> {
    let filling = if size == 0 { String::new() } else { format!(" {}", "x".repeat(size)) };
    speaker.speak(line, number, &filling).await?;
    loop {
        match speaker.make_of(&line.next().await?) {
            Came::Taken(taken) if taken == number => return Ok(()),
            Came::Refused(_, why) => return Err(format!("the speaker was refused: {why}").into()),
            _ => {}
        }
    }
}

/// Says more while others catch up, then reads on, or it would be a stalled reader. Never ends by itself.
async fn go_on(
    speaker: &mut Person,
    line: &mut Line,
    numbers: std::ops::RangeInclusive<u64>,
) -> Attempt<std::convert::Infallible> {
    for number in numbers {
        say(speaker, line, number, 0).await?;
        tokio::time::sleep(BREATH).await;
    }
    loop {
        line.next().await?;
    }
}

/// Everybody comes, hears one word, and goes.
async fn come_and_go(doors: &Doors, (speaker, line): (&mut Person, &mut Line)) -> Attempt<Vec<(Person, By)>> {
    let mut people = vec![
        (Person::mxf(doors, "plain", ROOM).await?, By::WebSocket),
        (Person::mxf(doors, "polling", ROOM).await?, By::Polling),
        (Person::aiwm(doors, "named", ROOM).await?, By::WebSocket),
        (Person::aiwm(doors, "poller", ROOM).await?, By::Polling),
        (Person::megabot("guest", ROOM), By::WebSocket),
    ];
    let mut lines = Vec::new();
    for (person, _) in &mut people {
        let tcp = TcpStream::connect(person.door(doors)).await?;
        lines.push(person.come(doors, tcp).await?.0);
    }
    say(speaker, line, 0, 0).await?;
    for ((person, _), line) in people.iter_mut().zip(&mut lines) {
        let first = Came::Said(speaker.words(0));
        while person.make_of(&line.next().await?) != first {}
    }
    Ok(people)
}

/// Comes back and reads everything in order, over one connection. Gives how long it took, in milliseconds.
async fn return_and_read(mut person: Person, by: By, doors: &Doors, last: u64) -> Attempt<u64> {
    let since = clock::monotonic_ms();
    let (mut way, mut came) = match by {
        By::WebSocket => {
            let tcp = narrow::connect(person.door(doors)).await?;
            let (line, came) = person.come(doors, tcp).await?;
            (Way::Socket(Box::new(line)), came)
        }
        By::Polling => {
            let (namespace, auth) = person.knock();
            let poller = Poller::open(person.door(doors), namespace, &auth).await?;
            (Way::Polls(Box::new(poller)), Vec::new())
        }
    };
    let mut next = 1;
    came.reverse();
    while next <= last {
        let came = match came.pop() {
            Some(came) => came,
            None => person.make_of(&way.next().await?),
        };
        let Came::Said(words) = came else { continue };
        let number = words.strip_prefix("speaker-").and_then(|number| number.parse::<u64>().ok());
        // What it heard before it went may come again where nothing proved that it arrived.
        let number = number.filter(|number| *number > 0 || next > 1);
        match number {
            Some(number) if number == next => next += 1,
            Some(number) => return Err(format!("message {number} came in place of {next}").into()),
            None => {}
        }
    }
    Ok(clock::monotonic_ms() - since)
}

/// The most memory the server takes until all have come to their end, and how they fared.
async fn watch(
    server: &Server,
    mut returning: JoinSet<Result<u64, String>>,
) -> Attempt<(u64, Vec<Result<u64, String>>)> {
    let (mut highest, mut fared) = (0, Vec::new());
    loop {
        highest = highest.max(server.memory("VmRSS")?);
        match tokio::time::timeout(BREATH, returning.join_next()).await {
            Ok(Some(one)) => fared.push(one?),
            Ok(None) => return Ok((highest, fared)),
            Err(_) => {}
        }
    }
}
