//! The whole server in one process: it starts, lets somebody in, keeps what was said, stops in order, and starts again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot set its stage has failed"
)]

#[path = "server/blocks.rs"]
mod blocks;
#[path = "server/bodies.rs"]
mod bodies;
#[path = "server/coming_back.rs"]
mod coming_back;
#[path = "server/components.rs"]
mod components;
#[path = "server/exchange.rs"]
mod exchange;
#[path = "server/limits.rs"]
mod limits;
#[path = "server/monitoring.rs"]
mod monitoring;
#[path = "server/openapi.rs"]
mod openapi;
#[path = "server/pages.rs"]
mod pages;
#[path = "server/proxies.rs"]
mod proxies;
#[path = "server/refusals.rs"]
mod refusals;
#[path = "server/rig.rs"]
mod rig;
#[path = "server/security.rs"]
mod security;
#[path = "server/turns.rs"]
mod turns;
#[path = "server/workspaces.rs"]
mod workspaces;

use std::io::{Read as _, Write as _};

use roundtable::auth::first_start::FirstCredentials;
use roundtable::config::{Config, Sources};
use roundtable::server::Server;

fn config(dir: &std::path::Path) -> Config {
    let sources =
        Sources { listen: vec!["127.0.0.1:0=hive".into()], data: Some(dir.to_owned()), ..Sources::default() };
    Config::load(&sources).unwrap()
}

#[tokio::test]
async fn it_starts_answers_and_stops_twice_on_the_same_directory() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let t = roundtable::clock::monotonic_ms();
        let server = Server::start(&config(dir.path())).await.unwrap();
        eprintln!("start {}", roundtable::clock::monotonic_ms() - t);
        assert_eq!(server.wrote_credentials, round == 0);
        let address = server.addresses.first().copied().flatten().unwrap();
        let answer = tokio::task::spawn_blocking(move || {
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            socket.write_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            answer
        })
        .await
        .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\"pingInterval\":25000"), "{answer}");
        let t = roundtable::clock::monotonic_ms();
        server.stop().await;
        eprintln!("stop {}", roundtable::clock::monotonic_ms() - t);
    }
}

fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn whoever_watches_it_sees_that_it_is_ready_and_what_it_counted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&config(dir.path())).await.unwrap();
    let address = server.addresses.first().copied().flatten().unwrap();
    let asked = move || ["/livez", "/readyz", "/metrics"].map(|path| get(address, path));
    let [live, ready, metrics] = tokio::task::spawn_blocking(asked).await.unwrap();
    assert!(live.starts_with("HTTP/1.1 200 ") && live.contains(r#""status":"live""#), "{live}");
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains(r#"{"status":"ready"}"#), "{ready}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().trim().parse().unwrap()
    };
    let home = r#"{workspace="default"}"#;
    assert!(value(&format!("roundtable_workspace_head{home}")) >= 3.0, "the first start wrote its records");
    let appends = value(&format!("roundtable_sync_seconds_count{home}"));
    assert!(appends >= 1.0 && value(&format!("roundtable_batches_total{home}")) >= appends);
    assert!(value(&format!("roundtable_sync_seconds_sum{home}")) > 0.0);
    assert!(value(r#"roundtable_sync_seconds_bucket{workspace="default",le="+Inf"}"#) >= appends);
    assert!((value(r#"roundtable_feed_watchers{feed="activity"}"#)).abs() < f64::EPSILON);
    server.stop().await;
}

fn post(address: std::net::SocketAddr, path: &str, token: &str, body: &str) -> String {
    whole(address, ("POST", path), token, body)
}

/// A whole answer with its head.
fn whole(address: std::net::SocketAddr, (method, path): (&str, &str), token: &str, body: &str) -> String {
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close");
    let bearer = if token.is_empty() { String::new() } else { format!("\r\nAuthorization: Bearer {token}") };
    write!(socket, "{head}{bearer}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// The status and the body of an answer.
fn call(address: std::net::SocketAddr, request: (&str, &str), token: &str, body: &str) -> (u16, String) {
    let answer = whole(address, request, token, body);
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_default();
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn a_server_starts_from_a_copy_that_was_made_while_it_ran() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(&config(first.path())).await.unwrap();
    let address = server.addresses.first().copied().flatten().unwrap();
    let token = FirstCredentials::read(first.path()).unwrap().unwrap().admin_token;
    let body = serde_json::json!({"file": second.path().join("roundtable.db")}).to_string();
    let asked = token.clone();
    let answers = tokio::task::spawn_blocking(move || {
        let room = |id: &str| post(address, "/admin/v1/rooms", &asked, &format!(r#"{{"room":"{id}"}}"#));
        let made = room("before");
        let copied = post(address, "/admin/v1/backup", &asked, &body);
        let again = post(address, "/admin/v1/backup", &asked, &body);
        [made, copied, again, room("after")]
    });
    let [made, copied, again, after] = answers.await.unwrap();
    assert!(made.starts_with("HTTP/1.1 201 "), "{made}");
    assert!(copied.starts_with("HTTP/1.1 201 "), "{copied}");
    assert!(again.starts_with("HTTP/1.1 409 "), "a copy is not overwritten: {again}");
    assert!(after.starts_with("HTTP/1.1 201 "), "{after}");
    server.stop().await;
    for file in ["secrets", "credentials.json"] {
        std::fs::copy(first.path().join(file), second.path().join(file)).unwrap();
    }
    let server = Server::start(&config(second.path())).await.unwrap();
    assert!(!server.wrote_credentials);
    let address = server.addresses.first().copied().flatten().unwrap();
    let asked = move || {
        let room = |id: &str| post(address, "/admin/v1/rooms", &token, &format!(r#"{{"room":"{id}"}}"#));
        [room("before"), room("after"), post(address, "/admin/v1/verify", &token, "")]
    };
    let [before, after, verified] = tokio::task::spawn_blocking(asked).await.unwrap();
    assert!(before.starts_with("HTTP/1.1 409 "), "the copy knows what came before it: {before}");
    assert!(after.starts_with("HTTP/1.1 201 "), "and not what came after: {after}");
    assert!(
        verified.contains(r#""broken":null"#) && verified.contains(r#""workspace":"default""#),
        "{verified}"
    );
    server.stop().await;
}
