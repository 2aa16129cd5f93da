//! Bodies of requests are bounded in size and time before anybody has said who they are.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::House;

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a head and what there is of its body, and reads until the server closes.
async fn until_the_end(house: &House, what: &str, headers: &str, body: &[u8]) -> String {
    let mut socket = TcpStream::connect(house.address(1)).await.unwrap();
    let head = format!("{what} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    socket.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.expect("a close").unwrap();
    answer
}

fn parts(answer: &str) -> (u16, String, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stays_unfinished_is_given_up() {
    let house = House::open(&["server.body_timeout=300ms"]).await;
    for (path, words) in [
        ("/dev/aiwm/auth/login", "/statusCode"),
        ("/api/v1/auth/token", "/error/code"),
        ("/api/auth/login", "/code"),
        ("/nothing", "/message"),
    ] {
        let answer = until_the_end(&house, &format!("POST {path}"), "Content-Length: 100\r\n", b"{").await;
        let (status, head, body) = parts(&answer);
        assert!(status == 408 && head.contains("connection: close"), "{path}: {answer}");
        assert!(body.pointer(words).is_some_and(|is| *is == 408 || is.is_string()), "{path}: {answer}");
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    let answer = until_the_end(&house, "POST /api/auth/login", chunked, b"1\r\n{\r\n").await;
    assert_eq!(parts(&answer).0, 408, "{answer}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_says_it_is_too_large_is_refused_unread() {
    let house = House::open(&["server.max_body=1KiB"]).await;
    for expect in ["", "Expect: 100-continue\r\n"] {
        let headers = format!("Content-Length: 5000\r\n{expect}");
        let answer = until_the_end(&house, "POST /api/auth/login", &headers, b"").await;
        let (status, head, _) = parts(&answer);
        assert!(status == 413 && head.contains("connection: close"), "{answer}");
    }
    let large = vec![b'x'; 8 << 20];
    let headers = format!("Content-Length: {}\r\n", large.len());
    let answer = until_the_end(&house, "POST /api/auth/login", &headers, &large).await;
    assert_eq!(parts(&answer).0, 413, "who sends it all the same learns why it is refused: {answer}");
    let body = json!({"username": "admin", "password": house.first.admin.password}).to_string();
    let headers = format!("Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n", body.len());
    let answer = until_the_end(&house, "POST /api/auth/login", &headers, body.as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    house.close().await;
}

/// Opens a polling session and gives its path.
async fn session(house: &House) -> String {
    let path = "/socket.io/?EIO=4&transport=polling";
    let answer = until_the_end(house, &format!("GET {path}"), "Connection: close\r\n", b"").await;
    let (_, packet) = answer.split_once("\r\n\r\n0").unwrap();
    let opened: Value = serde_json::from_str(packet).unwrap();
    format!("{path}&sid={}", opened["sid"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_is_never_finished_or_too_large_ends_its_session() {
    let house = House::open(&["server.body_timeout=300ms", "socketio.max_payload=1KiB"]).await;
    for (length, refused) in [(100, 408), (5_000, 400)] {
        let path = session(&house).await;
        let headers = format!("Content-Length: {length}\r\n");
        let answer = until_the_end(&house, &format!("POST {path}"), &headers, b"4").await;
        assert_eq!(parts(&answer).0, refused, "{answer}");
        let gone = until_the_end(&house, &format!("GET {path}"), "Connection: close\r\n", b"").await;
        assert_eq!((parts(&gone).0, &parts(&gone).2["code"]), (400, &json!(1)), "{gone}");
    }
    house.close().await;
}
