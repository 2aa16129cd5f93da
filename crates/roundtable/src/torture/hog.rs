//! Senders that leave no pause, each kind of them alone: whoever talks beside them, and whoever asks whether the server lives,
//! must not notice more than if the same bytes went elsewhere (P8).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roundtable_dialects::websocket::{Deflater, Frame};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::child::{Doors, Server, Site};
use super::garbage::frames::{BINARY, COMPRESSED, FIN, PING, TEXT, frame};
use super::pair::Pair;
use super::person::Person;
use super::{Report, Scale};
use crate::clock;
use crate::line::{Attempt, post};

const ROOM: &str = "square";
/// Pairs of people who talk.
const PAIRS: usize = 4;
/// The longest that 99 of 100 may take, in milliseconds, unless the machine is that slow by itself.
const MOST_MS: u64 = 50;
/// How many times as long as without the senders it may take then.
const TIMES: u64 = 3;
/// What a build without optimization may take for one message that cannot be divided.
const SLACK: u64 = if cfg!(debug_assertions) { 60 } else { 1 };
/// A pause between two questions whether the server lives.
const BREATH: Duration = Duration::from_millis(20);
/// How long one step may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that are written at once.
const BURST: usize = 16 << 10;
/// Nobody is blocked for what is sent here, and the people who talk may talk as they like.
const SETTINGS: [&str; 8] = [
    "server.drain_timeout=1s",
    "mxf.messages_per_minute=off",
    "megabot.frames_per_second=off",
    "openagi.requests_per_minute=off",
    "openagi.requests_per_hour=off",
    "security.failed_logins=off",
    "security.suspicious_logins=off",
    "security.refused_messages=off",
];

/// One way to send.
struct Kind {
    what: &'static str,
    to: SocketAddr,
    opening: Opening,
    /// What is sent again and again once it is open.
    burst: Vec<u8>,
}

/// How a sender comes in.
#[derive(Clone)]
enum Opening {
    /// By nothing: requests over HTTP, one behind the other.
    None,
    /// By a WebSocket at this path.
    WebSocket(String),
    /// By a polling session of this AIWM agent, whose posts carry the packets.
    Polling(String),
}

/// How long people waited for one another, and how long those who asked whether the server lives: 99 of 100 of them.
#[derive(Clone, Copy, Debug)]
struct Waited {
    people_ms: u64,
    probes_ms: u64,
}

pub async fn attack(dir: &Path, scale: &Scale, report: &mut Report) -> Attempt<()> {
    let site = Site::new(dir, &SETTINGS);
    let mut server = site.start().await?;
    let doors = server.doors.clone();
    let mut people = Vec::new();
    for pair in 0..PAIRS {
        let room = format!("{ROOM}-{pair}");
        doors.room(&room).await?;
        let calm = Person::mxf(&doors, &format!("calm-{pair}"), &room).await?;
        people.push([calm, Person::megabot(&format!("quiet-{pair}"), &room)]);
    }
    let kinds = kinds(&doors).await?;
    let nowhere = discard().await?;
    let span = Duration::from_millis(scale.pick(1_200, 4_000));
    for count in scale.pick([10].as_slice(), [1, 10].as_slice()) {
        for kind in &kinds {
            let elsewhere = suffer(&doors, (kind, Some(nowhere)), people.clone(), (*count, span)).await?;
            let here = suffer(&doors, (kind, None), people.clone(), (*count, span)).await?;
            tell((kind.what, *count), (elsewhere, here), report);
            if let Some(how) = server.ended() {
                return Err(format!("the server ended: {how}").into());
            }
        }
    }
    refusals_end(&server, &kinds, report).await?;
    report.broken.extend(site.faults());
    Ok(())
}

fn tell((what, count): (&str, usize), (elsewhere, here): (Waited, Waited), report: &mut Report) {
    for (who, before, after) in
        [("people", elsewhere.people_ms, here.people_ms), ("probes", elsewhere.probes_ms, here.probes_ms)]
    {
        let bound = (MOST_MS * SLACK).max(before * TIMES);
        report.figure(
            format!("{count} x {what}: {who} waited (elsewhere {before}, bound {bound})"),
            after,
            "ms",
        );
        if after > bound {
            report
                .broken
                .push(format!("{count} x {what}: {who} waited {after} ms, at most {bound} are allowed"));
        }
    }
}

/// What is sent, in every way there is.
async fn kinds(doors: &Doors) -> Attempt<Vec<Kind>> {
    let body = json!({"node_id": "hog", "public_key": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="});
    let issued = post(format!("http://{}/api/v1/auth/token", doors.nodes), "", body).await?;
    let node = text(&issued, "token");
    doors.admin("/agents", json!({"agent_id": "hog"})).await?;
    let agent = text(&doors.admin("/tokens", json!({"agent": "hog"})).await?, "token");
    let bomb = format!(r#"{{"type":"ping","data":[{}0]}}"#, "0,".repeat(500 << 10));
    let bomb = Deflater::new().shrink(&Frame::text(&bomb), 15).ok_or("it gets no shorter")?;
    let bomb = frame(FIN | COMPRESSED | TEXT, bomb.payload());
    let batch =
        json!({"id": "b", "type": "batch", "payload": {"messages": vec![json!({"type": "ping"}); 100]}});
    let lists = format!(
        "GET /dev/aiwm/agents?limit=200 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {agent}\r\n\r\n\
         GET /api/agents?limit=200 HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    let hive = || Opening::WebSocket("/ws".into());
    let node_door = Opening::WebSocket(format!("/api/v1/ws?token={node}"));
    let kind = |what, to, opening, burst: &[u8]| Kind {
        what,
        to,
        opening,
        burst: burst.repeat((BURST / burst.len().max(1)).max(1)),
    };
    Ok(vec![
        kind("empty frames", doors.agents, hive(), &frame(FIN | TEXT, b"")),
        kind(
            "empty pieces",
            doors.agents,
            hive(),
            &[frame(BINARY, b""), frame(0, b"").repeat(500), frame(FIN, b"")].concat(),
        ),
        kind("pings", doors.agents, hive(), &frame(FIN | PING, b"")),
        kind("deflate bombs", doors.nodes, node_door, &bomb),
        kind(
            "batches",
            doors.people,
            Opening::WebSocket("/ws?user_id=hog".into()),
            &frame(FIN | TEXT, batch.to_string().as_bytes()),
        ),
        kind("refused ones that go on", doors.nodes, Opening::WebSocket("/api/v1/ws".into()), &bomb),
        kind("posts of many packets", doors.agents, Opening::Polling(agent), b""),
        kind("REST lists", doors.agents, Opening::None, lists.as_bytes()),
    ])
}

fn text(data: &Value, name: &str) -> String {
    data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A port whose bytes nobody looks at.
async fn discard() -> Attempt<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move { tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await });
        }
    });
    Ok(address)
}

/// Lets people talk while so many senders of a kind send for a while, to the server or elsewhere.
async fn suffer(
    doors: &Doors,
    (kind, elsewhere): (&Kind, Option<SocketAddr>),
    people: Vec<[Person; 2]>,
    (count, span): (usize, Duration),
) -> Attempt<Waited> {
    let mut talking = Vec::new();
    for pair in people {
        // What they say is new each time, so it has new ids.
        let run = clock::random_u64();
        let pair = pair.map(|mut person| {
            person.name = format!("{}-{run}", person.name);
            person
        });
        talking.push(Pair::of(pair, doors).await?);
    }
    let until = clock::monotonic_ms() + span.as_millis() as u64;
    let (mut senders, came) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for _ in 0..count {
        let (to, opening, burst) = (kind.to, kind.opening.clone(), kind.burst.clone());
        let came = Arc::clone(&came);
        senders.spawn(async move {
            while clock::monotonic_ms() < until {
                // Cut, it comes again.
                let (tcp, sid) = match elsewhere {
                    Some(nowhere) => (TcpStream::connect(nowhere).await?, "none".to_owned()),
                    None => match come(to, &opening).await {
                        Ok(came) => came,
                        Err(_) => continue,
                    },
                };
                came.fetch_add(1, Ordering::Relaxed);
                send(tcp, &burst_of(&opening, &sid, &burst), until).await;
            }
            Ok::<(), std::io::Error>(())
        });
    }
    let probes = probe(doors.agents, until).await?;
    let mut delays = Vec::new();
    for pair in talking {
        delays.extend(pair.delays().await?);
    }
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    if came.load(Ordering::Relaxed) < count {
        return Err(format!("{}: not every sender came in", kind.what).into());
    }
    Ok(Waited { people_ms: at_99(delays)?, probes_ms: at_99(probes)? })
}

fn at_99(mut delays: Vec<u64>) -> Attempt<u64> {
    delays.sort_unstable();
    let place = delays.len().saturating_sub(1) * 99 / 100;
    Ok(*delays.get(place).ok_or("nobody was heard at all")?)
}

/// Asks again and again whether the server lives, each time over a new connection; how long each answer took.
async fn probe(door: SocketAddr, until: u64) -> Attempt<Vec<u64>> {
    let mut delays = Vec::new();
    while clock::monotonic_ms() < until {
        let began = clock::monotonic_ms();
        let asked = async {
            let mut tcp = TcpStream::connect(door).await?;
            tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            tcp.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| "/livez does not answer")??;
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(format!("/livez answered {}", String::from_utf8_lossy(&answer)).into());
        }
        delays.push(clock::monotonic_ms() - began);
        tokio::time::sleep(BREATH).await;
    }
    Ok(delays)
}

/// Comes in. Gives the socket and the id of the session, if there is one.
async fn come(to: SocketAddr, opening: &Opening) -> Attempt<(TcpStream, String)> {
    let mut tcp = TcpStream::connect(to).await?;
    let mut sid = String::new();
    match opening {
        Opening::None => {}
        Opening::WebSocket(path) => upgrade(&mut tcp, path).await?,
        Opening::Polling(token) => sid = open_polling(&mut tcp, token).await?,
    }
    Ok((tcp, sid))
}

/// What is sent; posts name their session.
fn burst_of(opening: &Opening, sid: &str, burst: &[u8]) -> Vec<u8> {
    let Opening::Polling(_) = opening else { return burst.to_vec() };
    let packets = vec![r#"42/dev/aiwm/chat,["message:typing",{"isTyping":true}]"#; 200].join("\u{1e}");
    post_of(sid, &packets)
}

/// A post with packets for a session.
pub fn post_of(sid: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Sends until the time is up or the server cuts it.
async fn send(mut tcp: TcpStream, burst: &[u8], until: u64) {
    let (mut from, mut to) = tcp.split();
    let speak = async {
        while clock::monotonic_ms() < until {
            to.write_all(burst).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    // It reads, or it would be a stalled reader; what comes means nothing to it.
    let listen = async {
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
        Ok::<(), std::io::Error>(())
    };
    let left = Duration::from_millis(until.saturating_sub(clock::monotonic_ms()));
    // Whoever is not read any more ends with the time.
    let _ = tokio::time::timeout(left, async {
        tokio::select! { ended = speak => ended, ended = listen => ended }
    })
    .await;
}

/// Opens a WebSocket that offers compression.
pub async fn upgrade(tcp: &mut TcpStream, path: &str) -> Attempt<()> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await?;
    let answer = head_of_answer(tcp).await?;
    if answer.starts_with("HTTP/1.1 101 ") { Ok(()) } else { Err(format!("no upgrade: {answer}").into()) }
}

/// Reads the head of an answer.
pub async fn head_of_answer(tcp: &mut TcpStream) -> Attempt<String> {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await?);
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::time::timeout(PATIENCE, read).await.map_err(|_| "no answer")??;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Opens a polling session with more in its query. Gives its id.
pub async fn open_session(tcp: &mut TcpStream, query: &str) -> Attempt<String> {
    let head = format!("GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    tcp.write_all(head.as_bytes()).await?;
    let opened = body_of_answer(tcp).await?;
    let opened: Value = serde_json::from_str(opened.strip_prefix('0').unwrap_or_default())?;
    Ok(text(&opened, "sid"))
}

/// Opens a polling session and enters AIWM's namespace. Gives its id.
async fn open_polling(tcp: &mut TcpStream, token: &str) -> Attempt<String> {
    let sid = open_session(tcp, "").await?;
    let enter = format!("40/dev/aiwm/chat,{}", json!({"token": token}));
    tcp.write_all(&post_of(&sid, &enter)).await?;
    body_of_answer(tcp).await?;
    let ask =
        format!("GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    tcp.write_all(ask.as_bytes()).await?;
    let entered = body_of_answer(tcp).await?;
    if entered.starts_with("40/dev/aiwm/chat,") {
        Ok(sid)
    } else {
        Err(format!("not let in: {entered}").into())
    }
}

/// Reads an answer. Gives its body.
pub async fn body_of_answer(tcp: &mut TcpStream) -> Attempt<String> {
    let head = head_of_answer(tcp).await?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.trim().parse()?];
    tcp.read_exact(&mut body).await?;
    Ok(String::from_utf8(body)?)
}

/// A refused connection that goes on is cut when its time is up, however much it sends.
async fn refusals_end(server: &Server, kinds: &[Kind], report: &mut Report) -> Attempt<()> {
    let refused = kinds.iter().find(|kind| kind.what.starts_with("refused")).ok_or("nobody is refused")?;
    let Opening::WebSocket(path) = &refused.opening else { return Err("it comes by no WebSocket".into()) };
    let mut tcp = TcpStream::connect(server.doors.nodes).await?;
    upgrade(&mut tcp, path).await?;
    let began = clock::monotonic_ms();
    let (mut from, mut to) = tcp.split();
    let speak = async { while to.write_all(&refused.burst).await.is_ok() {} };
    let listen = async { tokio::io::copy(&mut from, &mut tokio::io::sink()).await };
    let cut = tokio::time::timeout(PATIENCE, async { tokio::join!(speak, listen) }).await;
    report.figure("a refused one that goes on is cut after", clock::monotonic_ms() - began, "ms");
    if cut.is_err() {
        report.broken.push("a refused connection that goes on is never cut".into());
    }
    Ok(())
}
