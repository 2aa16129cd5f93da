//! HTTP requests that no client should send: each is answered with a refusal, or the connection ends.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{AT_ONCE, PATIENCE};
use crate::line::Attempt;
use crate::torture::child::Doors;
use crate::torture::{Report, Scale};

/// Where bodies go.
const PATHS: [&str; 9] = [
    "/api/auth/login",
    "/api/auth/refresh",
    "/api/agents",
    "/api/v1/auth/token",
    "/dev/aiwm/agents/scribe/connect",
    "/dev/aiwm/auth/login",
    "/admin/v1/rooms",
    "/metrics",
    "/socket.io/?EIO=4&transport=polling",
];

/// Requests that are none, as they go over the wire.
const HEADS: [&str; 8] = [
    "\r\n\r\n\r\n\r\n",
    "GET\r\n\r\n",
    "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "POST /api/agents HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST /api/agents HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\n\r\n",
];

/// Sends all of them; how many that were.
pub async fn send_all(
    doors: &Doors,
    (scale, rounds): (&mut Scale, usize),
    report: &mut Report,
) -> Attempt<usize> {
    let turn = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    for door in [doors.agents, doors.people, doors.nodes] {
        let heads = HEADS.iter().map(|head| (format!("{head:?}"), head.as_bytes().to_vec()));
        let mut requests: Vec<(String, Vec<u8>)> = heads.collect();
        for path in PATHS {
            let mut bodies = bodies();
            bodies.extend((0..rounds / 10).map(|_| random(scale)));
            let what = |body: &Vec<u8>| format!("POST {path} with {} bytes", body.len());
            requests.extend(bodies.iter().map(|body| (what(body), request(path, body))));
        }
        for (what, request) in requests {
            let turn = Arc::clone(&turn);
            asking.spawn(async move {
                let _turn = turn.acquire().await?;
                Ok((ask(door, &request).await?, what))
            });
        }
    }
    let sent = asking.len();
    while let Some(asked) = asking.join_next().await {
        let asked: Attempt<(Option<u16>, String)> = asked?;
        match asked {
            Ok((status, what)) => note(status, &what, report),
            Err(error) => report.broken.push(error.to_string()),
        }
    }
    Ok(sent)
}

/// A fault of the server's own is none of the answers; nor is it that it takes what is wrong.
fn note(status: Option<u16>, what: &str, report: &mut Report) {
    if status.is_some_and(|status| !(300..500).contains(&status)) {
        report.broken.push(format!("{what} is answered with {status:?}"));
    }
}

fn bodies() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        b"{".to_vec(),
        b"null".to_vec(),
        vec![b'['; 100_000],
        b"\"\xff\xfe\"".to_vec(),
        b"{\"username\":{\"a\":[]},\"node_id\":1e999,\"name\":null}".to_vec(),
        vec![b'x'; (1 << 20) + 1],
    ]
}

fn random(scale: &mut Scale) -> Vec<u8> {
    (0..scale.draw(4_000)).map(|_| u8::try_from(scale.draw(256)).unwrap_or_default()).collect()
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The status that a request is answered with, `None` if the connection just ends. Fails if neither happens.
async fn ask(door: SocketAddr, request: &[u8]) -> Attempt<Option<u16>> {
    let mut tcp = TcpStream::connect(door).await?;
    let (mut from, mut to) = tcp.split();
    let send = async {
        // The server may have closed before it has read everything.
        let _ = to.write_all(request).await;
        std::future::pending::<()>().await;
    };
    let listen = async {
        let mut head = [0; 12];
        match from.read_exact(&mut head).await {
            Ok(_) => std::str::from_utf8(&head).ok().and_then(|text| text.get(9..12)?.parse().ok()),
            Err(_) => None,
        }
    };
    let asked = async {
        tokio::select! { status = listen => status, () = send => None }
    };
    let told = || format!("no answer to {:?}", String::from_utf8_lossy(request.get(..80).unwrap_or(request)));
    Ok(tokio::time::timeout(PATIENCE, asked).await.map_err(|_| told())?)
}
