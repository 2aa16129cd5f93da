//! Strangers of every kind that take as much as they are given: each costs a bounded piece of memory, and is gone in time (P6).

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::child::{Doors, Server, Site};
use super::garbage::frames::{BINARY, FIN, TEXT, frame};
use super::hog::{body_of_answer, head_of_answer, open_session, post_of, upgrade};
use super::{Report, Scale};
use crate::line::{Attempt, SOCKET_IO};
use crate::{clock, descriptors};

/// Memory that a stranger may cost.
const EACH: u64 = 64 << 10;
/// What the server takes for all of them together, and what its allocator keeps.
const TOGETHER: u64 = 6 << 20;
/// How long half of something may stay half here, and how much later it may be gone.
const HALF: &str = "server.header_timeout=3s";
const HALF_MS: u64 = 3_000;
/// How long a carrier without a credential lives here: until CONNECT, and from there until a login.
const CONNECT: &str = "socketio.connect_timeout=8s";
const LOGIN: &str = "mxf.auth_timeout=8s";
const LIFE_MS: u64 = 16_000;
/// How much later than that somebody may be gone, on a machine that does other things too.
const GRACE_MS: u64 = 4_000;
/// Bytes of something that is half sent, close to the largest whole one.
const MUCH: usize = 15 << 10;
/// Strangers that come at the same time.
const AT_ONCE: usize = 32;

/// A stranger's way to come in and to take something.
type Come = fn(Doors) -> Pin<Box<dyn Future<Output = Attempt<Stranger>> + Send>>;

/// One that has come.
struct Stranger {
    tcp: TcpStream,
    /// Its polling session.
    sid: Option<String>,
}

/// One kind of them.
struct Kind {
    what: &'static str,
    come: Come,
    /// How long it may live.
    life_ms: u64,
}

/// Every carrier, and on each what a stranger can do there.
const KINDS: [Kind; 10] = [
    Kind { what: "half a head", come: |doors| Box::pin(half_a_head(doors)), life_ms: HALF_MS },
    Kind { what: "Socket.IO, half a post", come: |doors| Box::pin(half_a_post(doors)), life_ms: HALF_MS },
    Kind { what: "Socket.IO, a session that polls", come: |doors| Box::pin(polls(doors)), life_ms: LIFE_MS },
    Kind {
        what: "Socket.IO, refused and asking by posts",
        come: |doors| Box::pin(asks_by_posts(doors)),
        life_ms: LIFE_MS,
    },
    Kind { what: "Socket.IO, refused and asking", come: |doors| Box::pin(asks(doors)), life_ms: LIFE_MS },
    Kind {
        what: "Socket.IO, half a message",
        come: |doors| Box::pin(half_a_message(doors)),
        life_ms: HALF_MS,
    },
    Kind { what: "Socket.IO, half an event", come: |doors| Box::pin(half_an_event(doors)), life_ms: HALF_MS },
    Kind {
        what: "Hive, refused",
        come: |doors| Box::pin(plain(doors.agents, "/ws?token=none")),
        life_ms: LIFE_MS,
    },
    Kind {
        what: "MegaBot, refused",
        come: |doors| Box::pin(plain(doors.people, "/ws?token=none")),
        life_ms: LIFE_MS,
    },
    Kind {
        what: "Open-A.G.I, refused",
        come: |doors| Box::pin(plain(doors.nodes, "/api/v1/ws")),
        life_ms: LIFE_MS,
    },
];

pub async fn attack(dir: &Path, scale: &Scale, report: &mut Report) -> Attempt<()> {
    let sockets = usize::try_from(descriptors::raise()).unwrap_or(usize::MAX);
    let count = scale.pick(150, 1_500).min(sockets.saturating_sub(200) / KINDS.len());
    let settings = [
        HALF,
        CONNECT,
        LOGIN,
        // All of them are one address; nobody is to be spared what the others take.
        "server.bodies=1GiB",
        "server.drain_timeout=1s",
        "auth.failures=off",
        "security.failed_logins=off",
        "security.suspicious_logins=off",
        "security.malformed_frames=off",
    ];
    let site = Site::new(dir, &settings);
    let mut server = site.start().await?;
    report.figure("strangers of each kind", count, "");
    let mut leaving = JoinSet::new();
    for kind in &KINDS {
        let before = server.memory("VmRSS")?;
        let strangers = gather(&server, kind, count).await?;
        let each = server.memory("VmRSS")?.saturating_sub(before) / count as u64;
        report.figure(format!("{}: memory of each", kind.what), each, "bytes");
        if each > EACH + TOGETHER / count as u64 {
            report.broken.push(format!("{}: each costs {each} bytes", kind.what));
        }
        let (door, deadline) = (server.doors.agents, clock::monotonic_ms() + kind.life_ms + GRACE_MS);
        for stranger in strangers {
            leaving.spawn(async move { (kind.what, stranger.goes(door, deadline).await) });
        }
    }
    let mut left = 0;
    while let Some(one) = leaving.join_next().await {
        let (what, gone) = one?;
        left += usize::from(gone);
        if !gone && report.broken.len() < 20 {
            report.broken.push(format!("{what}: a stranger is still there"));
        }
    }
    report.figure("strangers that were gone in time", left, "");
    let listed = server.doors.connections().await?;
    if listed > 0 {
        report.broken.push(format!("{listed} connections of strangers are still open"));
    }
    if let Some(how) = server.ended() {
        report.broken.push(format!("the server ended: {how}"));
    }
    report.broken.extend(site.faults());
    Ok(())
}

async fn gather(server: &Server, kind: &Kind, count: usize) -> Attempt<Vec<Stranger>> {
    let (mut coming, mut all) = (JoinSet::new(), Vec::new());
    for _ in 0..count {
        if coming.len() >= AT_ONCE
            && let Some(one) = coming.join_next().await
        {
            all.push(one??);
        }
        coming.spawn((kind.come)(server.doors.clone()));
    }
    while let Some(one) = coming.join_next().await {
        let one: Attempt<Stranger> = one?;
        all.push(one.map_err(|error| format!("{}: {error}", kind.what))?);
    }
    Ok(all)
}

impl Stranger {
    fn on(tcp: TcpStream) -> Self {
        Self { tcp, sid: None }
    }

    /// Waits for its end. Says whether it came in time.
    async fn goes(mut self, door: SocketAddr, deadline: u64) -> bool {
        let left = || Duration::from_millis(deadline.saturating_sub(clock::monotonic_ms()));
        let Some(sid) = self.sid else {
            let mut nowhere = tokio::io::sink();
            let end = tokio::io::copy(&mut self.tcp, &mut nowhere);
            return tokio::time::timeout(left(), end).await.is_ok();
        };
        // A session that nobody asks lives its whole life; then nobody knows it.
        tokio::time::sleep(left()).await;
        let ask = async {
            let mut tcp = TcpStream::connect(door).await?;
            let head = format!(
                "GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            );
            tcp.write_all(head.as_bytes()).await?;
            head_of_answer(&mut tcp).await
        };
        ask.await.is_ok_and(|head| head.starts_with("HTTP/1.1 400 "))
    }
}

async fn half_a_head(doors: Doors) -> Attempt<Stranger> {
    let mut tcp = TcpStream::connect(doors.agents).await?;
    tcp.write_all(
        format!("GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Much: {}", "x".repeat(MUCH / 2)).as_bytes(),
    )
    .await?;
    Ok(Stranger::on(tcp))
}

async fn half_a_post(doors: Doors) -> Attempt<Stranger> {
    let mut tcp = TcpStream::connect(doors.agents).await?;
    let sid = open_session(&mut tcp, "").await?;
    let whole = post_of(&sid, &format!("4{}", "x".repeat(MUCH)));
    tcp.write_all(whole.get(..whole.len() - 100).unwrap_or_default()).await?;
    Ok(Stranger::on(tcp))
}

/// Its head is as long as is kept of any.
async fn polls(doors: Doors) -> Attempt<Stranger> {
    let mut tcp = TcpStream::connect(doors.agents).await?;
    let sid = open_session(&mut tcp, &format!("&token={}", "x".repeat(3 << 10))).await?;
    Ok(Stranger { tcp, sid: Some(sid) })
}

/// What lets a stranger in as one: a login that fails may be tried again.
fn wrong(doors: &Doors) -> String {
    format!("40{}", json!({"domainKey": doors.credentials.domain_key, "keyId": "none", "secretKey": "none"}))
}

/// Questions that are all refused; none of the answers is fetched.
async fn asks_by_posts(doors: Doors) -> Attempt<Stranger> {
    let mut tcp = TcpStream::connect(doors.agents).await?;
    let sid = open_session(&mut tcp, "").await?;
    tcp.write_all(&post_of(&sid, &wrong(&doors))).await?;
    body_of_answer(&mut tcp).await?;
    let questions = vec![r#"420["x"]"#; 1_500].join("\u{1e}");
    for _ in 0..4 {
        tcp.write_all(&post_of(&sid, &questions)).await?;
        if !head_of_answer(&mut tcp).await?.starts_with("HTTP/1.1 200 ") {
            break;
        }
        tcp.read_exact(&mut [0; 2]).await?;
    }
    Ok(Stranger { tcp, sid: Some(sid) })
}

async fn socket(doors: &Doors) -> Attempt<TcpStream> {
    let mut tcp = TcpStream::connect(doors.agents).await?;
    upgrade(&mut tcp, SOCKET_IO).await?;
    Ok(tcp)
}

async fn asks(doors: Doors) -> Attempt<Stranger> {
    let mut tcp = socket(&doors).await?;
    tcp.write_all(&frame(FIN | TEXT, wrong(&doors).as_bytes())).await?;
    let question = frame(FIN | TEXT, br#"420["x"]"#);
    // It may be cut in the middle.
    let _ = tcp.write_all(&question.repeat(1_000)).await;
    Ok(Stranger::on(tcp))
}

async fn half_a_message(doors: Doors) -> Attempt<Stranger> {
    let mut tcp = socket(&doors).await?;
    let whole = frame(FIN | TEXT, format!("40{}", "x".repeat(MUCH)).as_bytes());
    tcp.write_all(whole.get(..whole.len() - 100).unwrap_or_default()).await?;
    Ok(Stranger::on(tcp))
}

async fn half_an_event(doors: Doors) -> Attempt<Stranger> {
    let mut tcp = socket(&doors).await?;
    tcp.write_all(&frame(FIN | TEXT, wrong(&doors).as_bytes())).await?;
    let announced = r#"452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    tcp.write_all(&frame(FIN | TEXT, announced.as_bytes())).await?;
    tcp.write_all(&frame(FIN | BINARY, &vec![0; MUCH])).await?;
    Ok(Stranger::on(tcp))
}

/// It is refused at once and sends half a message all the same.
async fn plain(door: SocketAddr, path: &'static str) -> Attempt<Stranger> {
    let mut tcp = TcpStream::connect(door).await?;
    upgrade(&mut tcp, path).await?;
    let whole = frame(FIN | TEXT, &vec![b'x'; MUCH]);
    // It may be cut in the middle.
    let _ = tcp.write_all(whole.get(..whole.len() - 100).unwrap_or_default()).await;
    Ok(Stranger::on(tcp))
}
