//! Floods, before anybody has said who they are and after: two bystanders keep talking, memory stays bounded (P6, P8).

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::child::{Doors, Site};
use super::pair::Pair;
use super::person::Person;
use super::{Report, Scale, UNLIMITED};
use crate::line::{Attempt, Line};
use crate::{clock, descriptors};

const ROOM: &str = "square";
/// How long a connection may take for the head of its request, here.
const HEADER_TIMEOUT: &str = "server.header_timeout=2s";
/// How much later than that a silent connection may be cut.
const GRACE: Duration = Duration::from_secs(20);
/// Memory of the server above that before, and for each connection.
const MEMORY: u64 = 96 << 20;
const MEMORY_EACH: u64 = 64 << 10;
/// Bytes of a header that is too large.
const HUGE: usize = 1 << 20;

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let sockets = usize::try_from(descriptors::raise()).unwrap_or(usize::MAX);
    let silent = scale.pick(500, 4_000).min(sockets / 4);
    let mut settings = UNLIMITED.to_vec();
    settings.push(HEADER_TIMEOUT);
    let site = Site::new(dir, &settings);
    let mut server = site.start().await?;
    server.doors.room(ROOM).await?;
    let pair = Pair::begin(&server.doors, ROOM).await?;
    let before = server.memory("VmRSS")?;

    let span = Duration::from_millis(scale.pick(2_000, 10_000));
    let mut floods = JoinSet::new();
    for number in 0..silent {
        floods.spawn(say_little(server.doors.agents, number));
    }
    for number in 0..8 {
        let seed = scale.draw(u64::MAX);
        floods.spawn(say_junk(server.doors.clone(), (number, seed), span));
    }
    let mut cut = 0;
    let ended = tokio::time::timeout(span + GRACE, async {
        while let Some(one) = floods.join_next().await {
            cut += usize::from(one.is_ok_and(|ended: Attempt<()>| ended.is_ok()));
        }
    });
    let all_cut = ended.await.is_ok();
    report.figure("silent and slow connections", silent, "");
    if !all_cut {
        report.broken.push("connections that say nothing, little or junk are not cut".into());
    }
    report.figure("connections that were cut, those with junk included", cut, "");
    drop(floods);

    let mut floods = JoinSet::new();
    for number in 0..scale.pick(4, 8) {
        let speaker = Person::megabot(&format!("loud{number}"), ROOM);
        floods.spawn(say_much(server.doors.clone(), speaker, (number % 2 == 0, span)));
    }
    floods.spawn(ask_much(server.doors.clone(), span));
    let mut said = 0;
    while let Some(one) = floods.join_next().await {
        said += one??;
    }
    report.figure("messages and questions of those that flood", said, "");
    pair.end(report).await?;
    let highest = server.memory("VmHWM")?.saturating_sub(before);
    let bound = MEMORY + MEMORY_EACH * silent as u64;
    report.figure("server's memory above that before the floods, at most", highest >> 10, "KiB");
    report.figure("bound for it", bound >> 10, "KiB");
    if highest > bound {
        report.broken.push(format!("the server took {} KiB more under floods", highest >> 10));
    }
    if let Some(how) = server.ended() {
        report.broken.push(format!("the server ended: {how}"));
    }
    report.broken.extend(site.faults());
    Ok(())
}

/// A connection that says nothing, or one letter of a request now and then. Ends when it is cut.
async fn say_little(door: std::net::SocketAddr, number: usize) -> Attempt<()> {
    let mut tcp = TcpStream::connect(door).await?;
    let (mut from, mut to) = tcp.split();
    let slow = number % 2 == 1;
    let speak = async {
        for letter in "GET /ws HTTP/1.1\r\nX-Slow: ".bytes().chain(std::iter::repeat(b'x')) {
            if !slow || to.write_all(&[letter]).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let listen = async {
        let mut rest = Vec::new();
        // Closed or reset: it is cut.
        let _ = from.read_to_end(&mut rest).await;
    };
    tokio::select! { () = speak => {}, () = listen => {} }
    Ok(())
}

/// Connections that send random bytes or a huge header, one after the other.
async fn say_junk(doors: Doors, (number, seed): (usize, u64), span: Duration) -> Attempt<()> {
    let mut scale = Scale::new(true, seed);
    let until = clock::monotonic_ms() + span.as_millis() as u64;
    while clock::monotonic_ms() < until {
        let mut tcp = TcpStream::connect(if number % 4 < 2 { doors.agents } else { doors.people }).await?;
        let junk: Vec<u8> = match number % 2 {
            0 => (0..64 << 10).map(|_| u8::try_from(scale.draw(256)).unwrap_or_default()).collect(),
            _ => format!("GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Huge: {}\r\n\r\n", "x".repeat(HUGE))
                .into_bytes(),
        };
        // The server may close in the middle of it.
        let _ = tcp.write_all(&junk).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(GRACE, tcp.read_to_end(&mut answer)).await?;
    }
    Ok(())
}

/// Somebody known who talks as fast as it goes, and reads or does not. Being cut for not reading is fine. How much it said.
async fn say_much(doors: Doors, mut person: Person, (reads, span): (bool, Duration)) -> Attempt<u64> {
    let tcp = TcpStream::connect(person.door(&doors)).await?;
    let (mut line, _) = person.come(&doors, tcp).await?;
    let until = clock::monotonic_ms() + span.as_millis() as u64;
    let mut number = 0;
    while clock::monotonic_ms() < until {
        let spoken = tokio::time::timeout(span, person.speak(&mut line, number + 1, " flood")).await;
        if !matches!(spoken, Ok(Ok(()))) {
            break;
        }
        number += 1;
        if reads && number % 16 == 0 {
            person.fence(&mut line).await?;
            while line.next().await?.name != "session_joined" {}
        }
    }
    Ok(number)
}

/// A dashboard that asks as fast as it goes and never reads.
async fn ask_much(doors: Doors, span: Duration) -> Attempt<u64> {
    let mut line = Line::plain("dashboard", &format!("ws://{}/ws", doors.agents)).await?;
    let ping: Value = json!({"action": "ping", "sequenceId": 1});
    let until = clock::monotonic_ms() + span.as_millis() as u64;
    let mut asked = 0;
    while clock::monotonic_ms() < until {
        let sent = tokio::time::timeout(span, line.send(Message::text(ping.to_string()))).await;
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
        asked += 1;
    }
    Ok(asked)
}
