//! Malformed and huge input on every port and path: the server lives, two bystanders are undisturbed, and each answer is an
//! error or the right close (P8).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::child::{Doors, Site};
use super::pair::Pair;
use super::{Report, Scale, UNLIMITED};
use crate::line::{Attempt, SOCKET_IO, post};

pub mod frames;
mod requests;

use frames::Want;

const ROOM: &str = "square";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections under way at the same time.
const AT_ONCE: usize = 32;
/// How long nothing has to come before a connection counts as open.
const QUIET: Duration = Duration::from_millis(300);
/// Nobody is blocked for what is sent here: that is another promise. Who sends no request is cut before it is given up here.
const LENIENT: [&str; 6] = [
    "server.header_timeout=2s",
    "security.suspicious_logins=off",
    "security.failed_logins=off",
    "security.forged_tokens=off",
    "security.malformed_frames=off",
    "security.refused_messages=off",
];

/// Where frames go, and whether it is Socket.IO, where a bad frame cuts the transport.
struct Door {
    name: &'static str,
    to: SocketAddr,
    path: String,
    socket_io: bool,
}

pub async fn attack(dir: &Path, scale: &mut Scale, report: &mut Report) -> Attempt<()> {
    let settings: Vec<&str> = UNLIMITED.iter().chain(&LENIENT).copied().collect();
    let site = Site::new(dir, &settings);
    let mut server = site.start().await?;
    server.doors.room(ROOM).await?;
    let pair = Pair::begin(&server.doors, ROOM).await?;
    let before = server.memory("VmRSS")?;
    let rounds = scale.pick(10, 500);
    let turn = Arc::new(Semaphore::new(AT_ONCE));
    let mut trying = JoinSet::new();
    let known = frames::cases();
    for door in doors(&server.doors).await?.map(Arc::new) {
        for case in known.iter().cloned().chain((0..rounds).map(|_| frames::noise(scale))) {
            let (door, turn) = (Arc::clone(&door), Arc::clone(&turn));
            trying.spawn(async move {
                let _turn = turn.acquire().await?;
                let tried = try_out(&door, &case).await;
                tried.map_err(|error| format!("{}: {}: {error}", door.name, case.what).into())
            });
        }
    }
    let sent = trying.len();
    while let Some(tried) = trying.join_next().await {
        let tried: Attempt<()> = tried?;
        report.broken.extend(tried.err().map(|error| error.to_string()));
    }
    report.figure("malformed frames and streams", sent, "");
    let asked = requests::send_all(&server.doors, (scale, rounds), report).await?;
    report.figure("malformed requests", asked, "");
    pair.end(report).await?;
    let more = server.memory("VmHWM")?.saturating_sub(before);
    report.figure("server's memory above that before, at most", more >> 10, "KiB");
    if more > 256 << 20 {
        report.broken.push(format!("the server took {} KiB more for garbage", more >> 10));
    }
    if let Some(how) = server.ended() {
        report.broken.push(format!("the server ended: {how}"));
    }
    report.broken.extend(site.faults());
    Ok(())
}

/// Every way in that speaks WebSocket.
async fn doors(doors: &Doors) -> Attempt<[Door; 6]> {
    let body = json!({"node_id": "torture", "public_key": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="});
    let issued = post(format!("http://{}/api/v1/auth/token", doors.nodes), "", body).await?;
    let node = issued.get("token").and_then(|token| token.as_str()).unwrap_or_default();
    doors.admin("/agents", json!({"agent_id": "torture"})).await?;
    let issued = doors.admin("/tokens", json!({"agent": "torture"})).await?;
    let agent = issued.get("token").and_then(|token| token.as_str()).unwrap_or_default();
    let door = |name, to, path: &str, socket_io| Door { name, to, path: path.to_owned(), socket_io };
    Ok([
        door("MegaBot", doors.people, "/ws?user_id=eve", false),
        door("Hive", doors.agents, "/ws", false),
        door("Open-A.G.I", doors.nodes, &format!("/api/v1/ws?token={node}"), false),
        door("AIWM, plain", doors.agents, &format!("/dev/aiwm/chat?token={agent}"), false),
        door("MXF and AIWM", doors.agents, SOCKET_IO, true),
        door("AIWM, own mount", doors.agents, "/dev/aiwm/chat/socket.io/?EIO=4&transport=websocket", true),
    ])
}

/// Opens a WebSocket, sends a case, and compares what becomes of the connection.
async fn try_out(door: &Door, case: &frames::Case) -> Attempt<()> {
    let mut tcp = TcpStream::connect(door.to).await?;
    let extension = if case.deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extension}\r\n",
        door.path, door.to
    );
    tcp.write_all(head.as_bytes()).await?;
    let mut heard = Vec::new();
    let (mut from, mut to) = tcp.split();
    let mut buffer = vec![0; 16 << 10];
    let frames_from = loop {
        let read =
            tokio::time::timeout(PATIENCE, from.read(&mut buffer)).await.map_err(|_| "no upgrade")??;
        heard.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if read == 0 {
            return Err(format!("no upgrade: {}", String::from_utf8_lossy(&heard)).into());
        }
    };
    if !heard.starts_with(b"HTTP/1.1 101 ") {
        return Err(format!("no upgrade: {}", String::from_utf8_lossy(&heard)).into());
    }
    // What is sent may be more than the server takes before it closes.
    let send = async {
        let _ = to.write_all(&case.bytes).await;
        std::future::pending::<()>().await;
    };
    let patience = if case.want == Want::Anything { QUIET } else { PATIENCE };
    let listen = async {
        loop {
            let enough =
                case.want == Want::Answer && frames::has_error(heard.get(frames_from..).unwrap_or_default());
            if enough || frames::close_code(heard.get(frames_from..).unwrap_or_default()).is_some() {
                return false;
            }
            match tokio::time::timeout(patience, from.read(&mut buffer)).await {
                Err(_) => return false,
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(read)) => heard.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            }
        }
    };
    let cut = tokio::select! { cut = listen => cut, () = send => true };
    let frames = heard.get(frames_from..).unwrap_or_default();
    let code = frames::close_code(frames);
    let fits = match case.want {
        Want::Anything => true,
        Want::Close(codes) => code.is_some_and(|code| codes.contains(&code)),
        Want::Answer => frames::has_error(frames) || (door.socket_io && (cut || code.is_some())),
    };
    if fits { Ok(()) } else { Err(format!("wanted {:?}, close code {code:?}, cut: {cut}", case.want).into()) }
}
