//! An agent in many rooms that comes back to a long log, again and again, and reads nothing: others come in as fast as ever,
//! the server's memory stays bounded, and who goes takes the work along (P6, P8).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::child::{Doors, Server, Site};
use super::narrow;
use super::person::{Came, Person};
use super::{Report, Scale, UNLIMITED};
use crate::clock;
use crate::line::{ANSWER, Attempt, Line, SOCKET_IO};

/// The agent that comes back.
const NAME: &str = "busy";
/// Characters of each message in the log.
const SIZE: usize = 900_000;
/// Requests and questions under way at the same time.
const AT_ONCE: usize = 16;
/// How long the others watch.
const WATCHED_MS: u64 = 4_000;
/// How long coming in may take beside them.
const SLOWEST_MS: u64 = 1_000;
/// How long the work may go on for who has gone.
const AFTERMATH: Duration = Duration::from_millis(100);
/// The second in which nothing is to be done, and how much the server may do in it.
const QUIET: Duration = Duration::from_secs(1);
const QUIET_MS: u64 = 250;
/// What the server may take above what it took before, and so much for each: its queue, and twice the largest message.
const MEMORY: u64 = 32 << 20;
const MEMORY_EACH: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

fn room(number: usize) -> String {
    format!("room-{number}")
}

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let (rooms, tail, returners) = scale.pick((200, 40_u64, 4), (3_000, 400, 8));
    let site = Site::new(dir, &UNLIMITED);
    let mut server = site.start().await?;
    let doors = server.doors.clone();
    furnish(&doors, rooms).await?;
    let mut busy = Person::mxf(&doors, NAME, &room(0)).await?;
    join_all(&doors, &mut busy, rooms).await?;
    fill(&doors, tail).await?;
    let mut visitor = Person::mxf(&doors, "visitor", &room(0)).await?;
    let calm = come_in(&doors, &mut visitor).await?;
    let before = server.memory("VmRSS")?;
    let mut lines = Vec::new();
    busy.goes_on_from("1:0");
    for _ in 0..returners {
        let tcp = narrow::connect(busy.door(&doors)).await?;
        let mut line =
            Line::over("returner", tcp, &format!("ws://{}{SOCKET_IO}", doors.agents), PATIENCE).await?;
        let (namespace, auth) = busy.knock();
        line.enter(namespace, &auth).await?;
        lines.push(line);
    }
    let (mut slowest, mut entries, mut highest) = (0, 0, 0);
    let until = clock::monotonic_ms() + WATCHED_MS;
    while clock::monotonic_ms() < until {
        slowest = slowest.max(come_in(&doors, &mut visitor).await?);
        entries += 1;
        highest = highest.max(server.memory("VmRSS")?);
    }
    drop(lines);
    tokio::time::sleep(AFTERMATH).await;
    let worked = work_in_a_second(&server).await?;
    let (highest, bound) = (highest.saturating_sub(before), MEMORY + MEMORY_EACH * returners);
    report.figure("rooms of the one that comes back", rooms, "");
    report.figure("messages in the log", tail, "");
    report.figure("connections that come back and do not read", returners, "");
    report.figure("others that came in meanwhile", entries, "");
    report.figure("coming in before", calm, "ms");
    report.figure("coming in meanwhile, longest", slowest, "ms");
    report.figure("processor in the second after they went", worked, "ms");
    report.figure("server's memory above that before, at most", highest >> 10, "KiB");
    report.figure("bound for it", bound >> 10, "KiB");
    if slowest > SLOWEST_MS {
        report.broken.push(format!("somebody waited {slowest} ms to come in"));
    }
    if worked > QUIET_MS {
        report
            .broken
            .push(format!("the server worked {worked} ms in a second for connections that are gone"));
    }
    if highest > bound {
        report.broken.push(format!("the server took {} KiB more for those that came back", highest >> 10));
    }
    let since = clock::monotonic_ms();
    read_all(&doors, &mut busy, tail).await?;
    report.figure("until one that reads had everything", clock::monotonic_ms() - since, "ms");
    if let Some(how) = server.ended() {
        report.broken.push(format!("the server ended: {how}"));
    }
    report.broken.extend(site.faults());
    Ok(())
}

/// Makes the rooms.
async fn furnish(doors: &Doors, rooms: usize) -> Attempt<()> {
    let (mut making, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for number in 0..rooms {
        let (doors, place) = (doors.clone(), Arc::clone(&places).acquire_owned().await?);
        making.spawn(async move {
            let _place = place;
            doors.room(&room(number)).await
        });
    }
    making.join_all().await.into_iter().collect()
}

/// Lets somebody into all of them, and go.
async fn join_all(doors: &Doors, person: &mut Person, rooms: usize) -> Attempt<()> {
    let tcp = TcpStream::connect(person.door(doors)).await?;
    let (mut line, _) = person.come(doors, tcp).await?;
    let mut open = 0;
    for number in 0..rooms {
        let join = json!({"agentId": NAME, "channelId": room(number)});
        line.ask("channel:join", &join, number as u64).await?;
        open += 1;
        while open > if number + 1 == rooms { 0 } else { AT_ONCE } {
            open -= usize::from(line.hear().await?.0 == ANSWER);
        }
    }
    Ok(())
}

/// Fills the log.
async fn fill(doors: &Doors, tail: u64) -> Attempt<()> {
    let mut speaker = Person::mxf(doors, "speaker", &room(0)).await?;
    let tcp = TcpStream::connect(speaker.door(doors)).await?;
    let (mut line, _) = speaker.come(doors, tcp).await?;
    let filling = format!(" {}", "x".repeat(SIZE));
    for number in 1..=tail {
        speaker.speak(&mut line, number, &filling).await?;
        while speaker.make_of(&line.next().await?) != Came::Taken(number) {}
    }
    Ok(())
}

/// How long somebody takes to come in, in milliseconds.
async fn come_in(doors: &Doors, person: &mut Person) -> Attempt<u64> {
    let since = clock::monotonic_ms();
    let tcp = TcpStream::connect(person.door(doors)).await?;
    let came = tokio::time::timeout(PATIENCE, person.come(doors, tcp)).await;
    came.map_err(|_| "nobody is let in any more")??;
    Ok(clock::monotonic_ms() - since)
}

/// Processor time that the server uses in a second in which nobody asks for anything, in milliseconds.
async fn work_in_a_second(server: &Server) -> Attempt<u64> {
    let before = server.processor_ms()?;
    tokio::time::sleep(QUIET).await;
    Ok(server.processor_ms()?.saturating_sub(before))
}

/// Comes back and reads all that was said, in order.
async fn read_all(doors: &Doors, person: &mut Person, tail: u64) -> Attempt<()> {
    let tcp = TcpStream::connect(person.door(doors)).await?;
    let (mut line, came) = person.come(doors, tcp).await?;
    let mut next = 1;
    let mut came = came.into_iter();
    while next <= tail {
        let came = match came.next() {
            Some(came) => came,
            None => {
                let heard = tokio::time::timeout(PATIENCE, line.next()).await;
                person.make_of(&heard.map_err(|_| "the rest does not come")??)
            }
        };
        let Came::Said(words) = came else { continue };
        match words.strip_prefix("speaker-").and_then(|number| number.parse::<u64>().ok()) {
            Some(number) if number == next => next += 1,
            _ => return Err(format!("{words} came in place of message {next}").into()),
        }
    }
    Ok(())
}
