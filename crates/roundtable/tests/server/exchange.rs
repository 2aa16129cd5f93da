//! HTTP itself: heads, bodies, upgrades and ends as clients, proxies and strangers send them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::House;

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends bytes, then what `then` does, and reads until the server ends the connection.
async fn told(house: &House, bytes: &str, ends: bool) -> String {
    let mut socket = TcpStream::connect(house.address(1)).await.unwrap();
    socket.write_all(bytes.as_bytes()).await.unwrap();
    if ends {
        socket.shutdown().await.unwrap();
    }
    rest(&mut socket).await
}

async fn rest(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an end").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// One answer with its length, on a connection that goes on.
async fn one(socket: &mut TcpStream) -> String {
    let (mut answer, mut piece) = (String::new(), [0; 4_096]);
    loop {
        let length = answer.split_once("\r\n\r\n").map(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            length.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| body.len() >= length)
        });
        if length == Some(true) {
            return answer;
        }
        let count = tokio::time::timeout(PATIENCE, socket.read(&mut piece)).await.expect("more").unwrap();
        assert!(count > 0, "it ended: {answer}");
        answer.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

const GET: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_head_is_told_that_it_is_late_and_silence_just_ends() {
    let house = House::open(&["server.header_timeout=400ms"]).await;
    let late = told(&house, "GET /health HTTP/1.1\r\nHost: loc", false).await;
    assert!(status(&late) == 408 && late.contains("connection: close"), "{late}");
    assert_eq!(told(&house, "", false).await, "");
    let mut socket = TcpStream::connect(house.address(1)).await.unwrap();
    socket.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(status(&one(&mut socket).await), 200);
    socket.write_all(b"GET /hea").await.unwrap();
    assert_eq!(status(&rest(&mut socket).await), 408, "the next head has the same time");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_kept_for_longer_than_its_client_is_told_and_than_a_head_may_take() {
    let house = House::open(&["server.header_timeout=300ms", "server.keep_alive=1s"]).await;
    let mut socket = TcpStream::connect(house.address(1)).await.unwrap();
    for _ in 0..2 {
        socket.write_all(GET.as_bytes()).await.unwrap();
        let answer = one(&mut socket).await;
        assert!(status(&answer) == 200 && answer.contains("keep-alive: timeout=1\r\n"), "{answer}");
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
    assert_eq!(rest(&mut socket).await, "", "and then it ends without a word");
    let closing = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&told(&house, closing, false).await), 200);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_sending_with_the_request_gets_the_answer() {
    let house = House::open(&[]).await;
    let login = json!({"username": "admin", "password": house.first.admin.password}).to_string();
    for what in [
        GET.to_owned(),
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /api/agents HTTP/1.0\r\n\r\n".to_owned(),
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        format!(
            "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{login}",
            login.len()
        ),
    ] {
        let answer = told(&house, &what, true).await;
        assert_eq!(status(&answer), 200, "{what}: {answer}");
    }
    let before = roundtable::clock::monotonic_ms();
    let cut = "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{";
    assert_eq!(status(&told(&house, cut, true).await), 400, "the rest never comes");
    assert!(roundtable::clock::monotonic_ms() - before < 5_000);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_to_other_things_are_passed_over_and_old_proxies_cannot_upgrade() {
    let house = House::open(&[]).await;
    let polling = "/socket.io/?EIO=4&transport=polling";
    let h2c =
        "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    for path in [polling, "/health"] {
        let answer =
            told(&house, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{h2c}\r\n"), true).await;
        assert_eq!(status(&answer), 200, "{path}: {answer}");
    }
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for path in ["/ws", "/hive/ws", "/megabot/ws", "/openagi/ws", "/socket.io/?EIO=4&transport=websocket"] {
        let old =
            told(&house, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{upgrade}\r\n"), false).await;
        let bare = told(&house, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"), false).await;
        let body = |answer: &str| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        assert_eq!((status(&old), body(&old)), (status(&bare), body(&bare)), "{path}: {old}");
        let expected = if path.starts_with("/socket.io") { 400 } else { 426 };
        assert_eq!(status(&old), expected, "{path}: {old}");
    }
    let offered = format!("{upgrade}Sec-WebSocket-Protocol: bearer.secret, chat, other\r\n");
    let mut socket = TcpStream::connect(house.address(1)).await.unwrap();
    let ask = format!("GET /hive/ws HTTP/1.1\r\nHost: localhost\r\n{offered}\r\n");
    socket.write_all(ask.as_bytes()).await.unwrap();
    let mut head = [0; 400];
    let count = tokio::time::timeout(PATIENCE, socket.read(&mut head)).await.unwrap().unwrap();
    let head = String::from_utf8_lossy(&head[..count]).to_lowercase();
    assert!(head.contains("sec-websocket-protocol: chat\r\n") && !head.contains("secret"), "{head}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_get_without_a_body() {
    let house = House::open(&[]).await;
    let admin = house.first.admin_token.clone();
    for (path, bearer) in [
        ("/health", ""),
        ("/api/agents", ""),
        ("/api/v1/status", ""),
        ("/api/auth/me", ""),
        ("/api/channels/none/history", ""),
        ("/dev/aiwm/ws", ""),
        ("/dev/aiwm/agents", ""),
        ("/livez", ""),
        ("/metrics", ""),
        ("/admin/v1/users", admin.as_str()),
        ("/hive/ws", ""),
        ("/nothing", ""),
    ] {
        let (got, head, body) = house.whole(1, &format!("GET {path}"), bearer, "").await;
        let (asked, asked_head, none) = house.whole(1, &format!("HEAD {path}"), bearer, "").await;
        assert_eq!((asked, none.as_str()), (got, ""), "{path}");
        let kind = |head: &str| head.lines().find(|line| line.starts_with("content-type")).map(str::to_owned);
        assert_eq!(kind(&asked_head), kind(&head), "{path}");
        assert!(!body.is_empty());
    }
    house.close().await;
}

/// Where each dialect and the operator take bodies: the path, and where the form of a refusal shows its status or words.
const TAKEN: [(&str, &str); 6] = [
    ("/dev/aiwm/auth/login", "/statusCode"),
    ("/api/v1/auth/token", "/error/code"),
    ("/api/auth/login", "/code"),
    ("/api/users/login", "/message"),
    ("/api/agents", "/error/code"),
    ("/admin/v1/rooms", "/error/kind"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_before_the_body_is_passed_over_and_an_encoded_one_is_refused() {
    let house = House::open(&[]).await;
    for (path, words) in TAKEN {
        let bearer = if path.starts_with("/admin") {
            format!("Authorization: Bearer {}\r\n", house.first.admin_token)
        } else {
            String::new()
        };
        let body = json!({"username": "admin", "password": "wrong", "node_id": "n", "public_key": "a2V5",
            "name": "A", "type": "worker", "capabilities": []});
        let body = if path.starts_with("/admin") { json!({"room": "marked"}) } else { body };
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}");
        let with =
            |more: &str, body: &str| format!("{head}{more}Content-Length: {}\r\n\r\n{body}", body.len());
        let marked = told(&house, &with("", &format!("\u{feff}{body}")), false).await;
        let expected = if ["/dev/aiwm/auth/login", "/api/auth/login", "/api/users/login"].contains(&path) {
            vec![401]
        } else {
            vec![200, 201]
        };
        assert!(expected.contains(&status(&marked)), "{path}: {marked}");
        let encoded = told(&house, &with("Content-Encoding: gzip\r\n", &body.to_string()), false).await;
        let told: Value = serde_json::from_str(encoded.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert!(status(&encoded) == 415 && told.pointer(words).is_some(), "{path}: {encoded}");
        let plain =
            self::told(&house, &with("Content-Encoding: identity\r\n", &body.to_string()), false).await;
        assert_ne!(status(&plain), 415, "{path}: {plain}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_logins_send_little_and_known_people_more() {
    let house = House::open_in(
        tempfile::tempdir().unwrap(),
        &[],
        &["127.0.0.1:0=hive".into(), "127.0.0.1:0=megabot/no-guests".into()],
    )
    .await;
    let large = json!({"text": "x".repeat(20 << 10)}).to_string();
    for path in [
        "/dev/aiwm/auth/login",
        "/dev/aiwm/agents/a/connect",
        "/api/v1/auth/token",
        "/openagi/api/v1/auth/token",
        "/api/auth/login",
        "/api/auth/refresh",
        "/api/users/login",
        "/api/users/register",
    ] {
        for listener in [0, 1] {
            let (status, head, body) = house.whole(listener, &format!("POST {path}"), "", &large).await;
            assert_eq!(status, 401, "{path}: {body}");
            assert!(head.contains("connection: close"), "{path}: {head}");
        }
    }
    let (_, user) = house
        .http(
            0,
            "POST /api/auth/login",
            "",
            &json!({"username": "admin", "password": house.first.admin.password}),
        )
        .await;
    let token = user["token"].as_str().unwrap();
    let admin = house.first.admin_token.clone();
    for (path, good) in [("/api/agents", token), ("/admin/v1/rooms", admin.as_str())] {
        let what = format!("POST {path}");
        for bearer in ["", "a-bad-token", "a:bad-key"] {
            let (status, _, body) = house.whole(1, &what, bearer, &large).await;
            assert!(status == 401 && body.contains("in the head of the request"), "{path}: {body}");
        }
        let (status, _, body) = house.whole(1, &what, good, &large).await;
        assert_eq!(status, 400, "it is read, and says nothing sensible: {path}: {body}");
    }
    let (status, _, body) = house.whole(0, "POST /api/agents", "", &large).await;
    assert_eq!(status, 400, "guests are known at home: {body}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stay_unfinished_fill_a_part_of_the_memory_and_keep_nobody_waiting() {
    let settings = ["server.bodies=4MiB", "server.header_timeout=2s", "server.body_timeout=20s"];
    let house = House::open(&settings).await;
    let head = "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000\r\n\r\n{";
    let mut unfinished = Vec::new();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(house.address(1)).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        unfinished.push(socket);
    }
    let before = roundtable::clock::monotonic_ms();
    let large = json!({"text": "x".repeat(500 << 10)}).to_string();
    let (status, _, body) = house.whole(0, "POST /admin/v1/rooms", &house.first.admin_token, &large).await;
    assert_eq!(status, 400, "{body}");
    // Nor a stranger whose body is as small as logins are.
    let login = json!({"username": "admin", "password": house.first.admin.password}).to_string();
    let (status, _, body) = house.whole(1, "POST /api/auth/login", "", &login).await;
    assert_eq!(status, 200, "{body}");
    let took = roundtable::clock::monotonic_ms() - before;
    assert!(took < 1_500, "{took} ms");
    let mut ends = std::collections::BTreeMap::new();
    for socket in &mut unfinished {
        let answer = rest(socket).await;
        *ends.entry(self::status(&answer)).or_insert(0) += 1;
    }
    assert_eq!(ends.keys().copied().collect::<Vec<_>>(), [408, 503], "{ends:?}");
    // A quarter of a quarter is for one address: 16 of them, and 16 when those have ended.
    assert!(ends[&408] <= 32, "{ends:?}");
    house.close().await;
}
