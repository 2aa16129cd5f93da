//! The whole server in one process: it starts, lets somebody in, keeps what was said, stops in order, and starts again.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::io::{Read as _, Write as _};

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
            socket.write_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
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
