//! Fair turns and strangers: who is refused is read no more, who sends slowly lives, and who breaks a rule hears its code.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use roundtable::clock::monotonic_ms;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::rig::{Client, House};

const SOCKET_IO: &str = "/socket.io/?EIO=4&transport=websocket";
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const PATIENCE: Duration = Duration::from_secs(20);

/// A WebSocket as it is on the wire.
async fn socket(house: &House, path: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(house.address(0)).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tcp.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    tcp
}

/// One request over a connection that stays; the status and the body of its answer.
async fn exchange(tcp: &mut TcpStream, request: &[u8], pause: Duration) -> (u16, String) {
    for piece in request.chunks(3_000) {
        tcp.write_all(piece).await.unwrap();
        tokio::time::sleep(pause).await;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(PATIENCE, tcp.read_u8()).await.expect("an answer").unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    tcp.read_exact(&mut body).await.unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// A masked text frame; a mask of zeros changes nothing.
fn frame(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match text.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(text);
    bytes
}

/// An Engine.IO connection of tungstenite's, past its first packet.
async fn engine(house: &House) -> WebSocketStream<TcpStream> {
    let tcp = TcpStream::connect(house.address(0)).await.unwrap();
    let url = format!("ws://{}{SOCKET_IO}", house.address(0));
    let (mut line, _) = tokio_tungstenite::client_async(url, tcp).await.unwrap();
    assert!(line.next().await.unwrap().unwrap().to_text().unwrap().starts_with('0'));
    line
}

/// The code of the close frame that ends a line; `None` if there is none.
async fn close_code(line: &mut WebSocketStream<TcpStream>) -> Option<u16> {
    loop {
        match tokio::time::timeout(PATIENCE, line.next()).await.expect("it must end") {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_that_goes_on_is_cut_when_its_time_is_up() {
    let house = House::open(&["websocket.close_timeout=500ms"]).await;
    let mut tcp = socket(&house, "/openagi/ws").await;
    let began = monotonic_ms();
    let (mut from, mut to) = tcp.split();
    let burst = frame(b"{}").repeat(2_000);
    let speak = async { while to.write_all(&burst).await.is_ok() {} };
    let mut heard = Vec::new();
    let listen = async { from.read_to_end(&mut heard).await };
    let ended = tokio::time::timeout(PATIENCE, async { tokio::join!(speak, listen) }).await;
    assert!(ended.is_ok(), "it goes on for ever");
    assert!(monotonic_ms() - began < 5_000, "{} ms", monotonic_ms() - began);
    let errors = heard.windows(7).filter(|seven| *seven == b"\"error\"").count();
    assert_eq!(errors, 1, "nothing behind the refusal is answered");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_do_not_wait_for_who_sends_without_a_pause() {
    let house = House::open(&["server.shards=1", "hive.status_interval=7d"]).await;
    let mut calm = Client::come(house.address(0), "/ws").await.unwrap();
    calm.next().await;
    let mut hogs = Vec::new();
    for _ in 0..4 {
        let mut tcp = socket(&house, "/ws").await;
        hogs.push(tokio::spawn(async move {
            let (mut from, mut to) = tcp.split();
            let burst = [0x81, 0x80, 0, 0, 0, 0].repeat(5_000);
            let speak = async { while to.write_all(&burst).await.is_ok() {} };
            let mut nowhere = tokio::io::sink();
            let listen = tokio::io::copy(&mut from, &mut nowhere);
            tokio::select! { () = speak => {}, _ = listen => {} }
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut longest = 0;
    for number in 1..=20 {
        let began = monotonic_ms();
        calm.send(&json!({"action": "ping", "sequenceId": number})).await;
        while calm.next().await["sequenceId"] != number {}
        longest = longest.max(monotonic_ms() - began);
    }
    hogs.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(longest < 1_000, "a ping took {longest} ms");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_the_frame_limit_is_refused_unread() {
    let house = House::open(&["megabot.frames_per_second=1", "megabot.frame_burst=2"]).await;
    let mut ada = Client::come(house.address(1), "/ws?user_id=ada").await.unwrap();
    ada.next().await;
    for text in [r#"{"type":"ping"}"#, r#"{"type":"ping"}"#, "not JSON", "not JSON either"] {
        ada.say(text).await;
    }
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(ada.next().await);
    }
    let kinds: Vec<_> =
        told.iter().map(|frame| frame["payload"]["error"].as_str().unwrap_or("pong")).collect();
    assert_eq!(
        kinds,
        ["pong", "pong", "rate_limited", "rate_limited"],
        "nobody has looked whether it is JSON"
    );
    assert_eq!(told[2]["payload"]["request_id"], Value::Null);
    assert!((1..=1_000).contains(&told[2]["payload"]["retry_after_ms"].as_u64().unwrap()));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socket_io_violations_close_with_the_codes_of_plain_sockets() {
    let house = House::open(&[]).await;
    for (packet, code) in [
        ("9".to_owned(), 1002),
        ("49".to_owned(), 1002),
        (r#"42["x"]"#.to_owned(), 1002),
        ("40{".to_owned(), 1007),
        (format!("40{{\"token\":\"{}\"}}", "x".repeat(17 << 10)), 1009),
    ] {
        let mut line = engine(&house).await;
        line.send(Message::text(packet.clone())).await.unwrap();
        assert_eq!(close_code(&mut line).await, Some(code), "{}", packet.get(..10).unwrap_or(&packet));
    }
    let mut tcp = socket(&house, SOCKET_IO).await;
    tcp.write_all(&frame(b"40{\"token\":\"\xff\"}")).await.unwrap();
    let mut heard = Vec::new();
    tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut heard)).await.unwrap().unwrap();
    let code: Vec<u8> = [&[0x88][..], &heard[heard.iter().rposition(|b| *b == 0x88).unwrap() + 1..]].concat();
    assert_eq!(code[2..4], 1007_u16.to_be_bytes(), "{code:?}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_connect_is_no_identity() {
    let house = House::open(&[]).await;
    let mut line = engine(&house).await;
    let wrong = json!({"domainKey": house.first.domain_key, "keyId": "none", "secretKey": "none"});
    line.send(Message::text(format!("40{wrong}"))).await.unwrap();
    assert!(line.next().await.unwrap().unwrap().to_text().unwrap().starts_with("40"), "accepted");
    line.send(Message::text(format!("42[\"x\",\"{}\"]", "x".repeat(17 << 10)))).await.unwrap();
    assert_eq!(close_code(&mut line).await, Some(1009));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_leaves_its_namespace_has_no_more_time() {
    let house = House::open(&["socketio.connect_timeout=700ms"]).await;
    let mut line = engine(&house).await;
    let wrong = json!({"domainKey": house.first.domain_key, "keyId": "none", "secretKey": "none"});
    line.send(Message::text(format!("40{wrong}"))).await.unwrap();
    line.send(Message::text("41")).await.unwrap();
    let began = monotonic_ms();
    assert_eq!(close_code(&mut line).await, Some(1000));
    assert!(monotonic_ms() - began < 5_000, "{} ms", monotonic_ms() - began);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_message_of_a_stranger_ends_in_time() {
    let house = House::open(&["server.header_timeout=700ms"]).await;
    let mut tcp = socket(&house, SOCKET_IO).await;
    let whole = frame(&[b'x'; 10_000]);
    tcp.write_all(&whole[..5_000]).await.unwrap();
    let began = monotonic_ms();
    let mut heard = Vec::new();
    tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert!(monotonic_ms() - began < 5_000, "{} ms", monotonic_ms() - began);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_for_an_unknown_session_is_refused_like_a_poll() {
    let house = House::open(&[]).await;
    let answer = Client::come(house.address(0), &format!("{SOCKET_IO}&sid=AAAAAAAAAAAAAAAAAAAA")).await;
    assert_eq!(answer.err(), Some((400, json!({"code": 1, "message": "Session ID unknown"}))));
    let (status, poll) =
        house.http(0, &format!("GET {POLLING}&sid=AAAAAAAAAAAAAAAAAAAA"), "", &Value::Null).await;
    assert_eq!((status, poll["code"].clone()), (400, json!(1)));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_longer_than_what_is_kept_open_no_session() {
    let house = House::open(&[]).await;
    for (length, status) in [(3 << 10, 200), (5 << 10, 431)] {
        let path = format!("GET {POLLING}&token={}", "x".repeat(length));
        assert_eq!(house.whole(0, &path, "", "").await.0, status, "{length}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ends_its_session_may_close_its_socket_first() {
    let house = House::open(&[]).await;
    let mut tcp = socket(&house, SOCKET_IO).await;
    assert_eq!(tcp.read_u8().await.unwrap(), 0x81);
    let length = tcp.read_u8().await.unwrap();
    tcp.read_exact(&mut vec![0; usize::from(length)]).await.unwrap();
    tcp.write_all(&frame(b"1")).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(500), tcp.read_u8()).await;
    assert!(early.is_err(), "the server does not close first: {early:?}");
    let mut heard = Vec::new();
    tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, [0x88, 2, 3, 232], "but it does not wait for ever");

    let mut line = engine(&house).await;
    line.send(Message::text("1")).await.unwrap();
    line.close(None).await.unwrap();
    assert!(close_code(&mut line).await.is_none_or(|code| code == 1005 || code == 1000));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_goes_on_is_waited_for() {
    let house = House::open(&[
        "server.body_timeout=500ms",
        "socketio.ping_interval=400ms",
        "socketio.ping_timeout=400ms",
    ])
    .await;
    house.admin("POST /admin/v1/agents", json!({"agent_id": "slow"})).await;
    let (_, issued) = house.admin("POST /admin/v1/tokens", json!({"agent": "slow"})).await;
    let large = json!({"role": "assistant", "content": "x".repeat(60_000)});
    let large = format!("42/dev/aiwm/chat,7[\"message:send\",{large}]");
    let (at_once, slowly) = (Duration::ZERO, Duration::from_millis(100));

    let mut tcp = TcpStream::connect(house.address(0)).await.unwrap();
    let (_, opened) = exchange(&mut tcp, &get(POLLING), at_once).await;
    let opened: Value = serde_json::from_str(&opened[1..]).unwrap();
    let path = format!("{POLLING}&sid={}", opened["sid"].as_str().unwrap());
    let enter = format!("40/dev/aiwm/chat,{}", json!({"token": issued["token"]}));
    assert_eq!(exchange(&mut tcp, &post(&path, &enter), at_once).await.0, 200);
    assert_eq!(exchange(&mut tcp, &post(&path, &large), slowly).await, (200, "ok".into()));
    let (status, heard) = exchange(&mut tcp, &get(&path), at_once).await;
    assert!(status == 200 && heard.contains("43/dev/aiwm/chat,7[{\"success\":true"), "{heard}");

    let (_, opened) = exchange(&mut tcp, &get(POLLING), at_once).await;
    let opened: Value = serde_json::from_str(&opened[1..]).unwrap();
    let path = format!("{POLLING}&sid={}", opened["sid"].as_str().unwrap());
    let half = &post(&path, &"4".repeat(15_000))[..5_000];
    assert_eq!(exchange(&mut tcp, half, at_once).await.0, 408, "a stranger has no more time than that");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_arrive_are_life() {
    let house = House::open(&[
        "socketio.ping_interval=400ms",
        "socketio.ping_timeout=400ms",
        "websocket.ping_interval=400ms",
    ])
    .await;
    let token = {
        house.admin("POST /admin/v1/agents", json!({"agent_id": "slow"})).await;
        let (_, issued) = house.admin("POST /admin/v1/tokens", json!({"agent": "slow"})).await;
        issued["token"].as_str().unwrap().to_owned()
    };
    let text = json!({"role": "assistant", "content": "x".repeat(60_000)});
    let enter = format!("40/dev/aiwm/chat,{}", json!({"token": token}));
    let event = format!("42/dev/aiwm/chat,7[\"message:send\",{text}]");
    for (path, opening, message, answer) in [
        (SOCKET_IO.to_owned(), Some(enter), event, "43/dev/aiwm/chat,7[{\"success\":true"),
        (
            format!("/dev/aiwm/chat?token={token}"),
            None,
            json!({"event": "message:send", "id": 7, "data": text}).to_string(),
            "\"event\":\"ack\"",
        ),
    ] {
        let mut tcp = socket(&house, &path).await;
        let (mut from, mut to) = tcp.split();
        if let Some(opening) = opening {
            to.write_all(&frame(opening.as_bytes())).await.unwrap();
        }
        let slowly = async {
            // Let it be let in first: a stranger's message is short.
            tokio::time::sleep(Duration::from_millis(300)).await;
            for piece in frame(message.as_bytes()).chunks(3_000) {
                to.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(120)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut heard = String::new();
        let listen = async {
            let mut buffer = vec![0; 64 << 10];
            while !heard.contains(answer) {
                let count = from.read(&mut buffer).await.unwrap();
                assert!(count > 0, "it was cut: {heard}");
                heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        tokio::select! {
            () = slowly => {}
            heard = tokio::time::timeout(PATIENCE, listen) => heard.expect("an answer"),
        }
    }
    house.close().await;
}
