//! Listeners that speak TLS: requests, sockets of both kinds, renewal under a live connection, and clients that misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot set its stage has failed"
)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use roundtable::config::{Config, Sources};
use roundtable::server::Server;
use roundtable_core::ids::{Principal, WorkspaceId};
use roundtable_core::time::Offset;
use roundtable_core::users::Incarnation;
use roundtable_dialects::rest::TokenOrder;
use roundtable_dialects::session::Family;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_tungstenite::tungstenite::protocol::WebSocket;
use tokio_tungstenite::tungstenite::{self, Message};

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// How long anything may take before a test gives up: a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(20);

struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate for this machine under a common name, and its key.
    fn issue(&self, dir: &Path, name: &str, until: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(until, 1, 2);
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(dir.join("certificate.pem"), signed.pem()).unwrap();
    }

    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    fn connect(&self, address: SocketAddr) -> Encrypted {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let session = ClientConnection::new(self.client(), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(session, socket)
    }

    /// The common name that a new handshake shows.
    fn shown(&self, address: SocketAddr) -> String {
        let mut stream = self.connect(address);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let chain = stream.conn.peer_certificates().unwrap();
        roundtable::tls::Certificate::read(&chain[0]).unwrap().subject
    }

    fn get(&self, address: SocketAddr, path: &str) -> String {
        let mut stream = self.connect(address);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        // Ends without an error only after the server's close_notify.
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn socket(&self, address: SocketAddr, path: &str) -> WebSocket<Encrypted> {
        let url = format!("wss://localhost:{}{path}", address.port());
        tungstenite::client(url, self.connect(address)).unwrap().0
    }
}

/// A house with one encrypted listener, certificate and data in `dir`.
async fn house(dir: &Path, more: &[&str]) -> (Server, SocketAddr) {
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let listen = format!(
        "server.listen=[{{address = \"127.0.0.1:0\", bare_ws = \"hive\", tls = {{certificate = {certificate:?}, key = {key:?}}}}}]"
    );
    let set = std::iter::once(listen).chain(more.iter().map(ToString::to_string)).collect();
    let sources = Sources { set, data: Some(dir.join("data")), ..Sources::default() };
    roundtable::auth::secrets::make_private_dir(&dir.join("data")).unwrap();
    let server = Server::start(&Config::load(&sources).unwrap()).await.unwrap();
    let address = server.addresses.first().copied().flatten().unwrap();
    (server, address)
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn next(socket: &mut WebSocket<Encrypted>) -> serde_json::Value {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    }
}

/// The next frame of a type.
fn wanted(socket: &mut WebSocket<Encrypted>, kind: &str) -> serde_json::Value {
    let end = roundtable::clock::monotonic_ms() + 20_000;
    loop {
        let frame = next(socket);
        if frame["type"] == kind {
            return frame;
        }
        assert!(roundtable::clock::monotonic_ms() < end, "no {kind}, but {frame}");
    }
}

fn tell(socket: &mut WebSocket<Encrypted>, frame: &serde_json::Value) {
    socket.send(Message::text(frame.to_string())).unwrap();
}

#[tokio::test]
async fn requests_and_sockets_work_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(dir.path(), "one", 2999);
    let (server, address) = house(dir.path(), &[]).await;
    blocking(move || {
        let poll = authority.get(address, "/socket.io/?EIO=4&transport=polling");
        assert!(poll.starts_with("HTTP/1.1 200 OK") && poll.contains("\"pingInterval\""), "{poll}");
        let mut hive = authority.socket(address, "/ws");
        tell(&mut hive, &serde_json::json!({"action": "ping", "sequenceId": 1}));
        wanted(&mut hive, "pong");
        // More than a socket's buffers hold, in one message and in many.
        let mut socket = authority.socket(address, "/megabot/ws");
        let content = "x".repeat(60_000);
        let mut chat = serde_json::json!({"type": "chat_send", "id": "m", "payload": {"content": content}});
        for n in 0..8 {
            chat["id"] = format!("m{n}").into();
            tell(&mut socket, &chat);
        }
        tell(&mut socket, &serde_json::json!({"id": "p", "type": "ping", "payload": {}}));
        wanted(&mut socket, "pong");
        socket.close(None).unwrap();
        while let Ok(message) = socket.read() {
            drop(message);
        }
        let mut rest = Vec::new();
        assert!(socket.get_mut().read_to_end(&mut rest).is_ok(), "the end is told with close_notify");
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn what_follows_the_upgrade_request_at_once_is_not_left_lying() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(dir.path(), "one", 2999);
    let (server, address) = house(dir.path(), &[]).await;
    blocking(move || {
        let mut stream = authority.connect(address);
        let head = "GET /megabot/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        let ping = br#"{"type":"ping","payload":{}}"#;
        // A masked text frame with mask 0, forty times, in the same records as the request.
        let mut bytes = head.as_bytes().to_vec();
        for _ in 0..40 {
            bytes.extend([0x81, 0x80 | u8::try_from(ping.len()).unwrap(), 0, 0, 0, 0]);
            bytes.extend(ping);
        }
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        let count = |answer: &[u8]| String::from_utf8_lossy(answer).matches("\"pong\"").count();
        while count(&answer) < 10 {
            let got = stream.read(&mut buffer).unwrap();
            assert!(got > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend(&buffer[..got]);
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_handshakes_and_a_broken_one_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(dir.path(), "first", 2999);
    let (server, address) = house(dir.path(), &[]).await;
    let folder = dir.path().to_owned();
    blocking(move || {
        let until = |name: &str| {
            let end = roundtable::clock::monotonic_ms() + 20_000;
            while !authority.shown(address).contains(name) {
                assert!(roundtable::clock::monotonic_ms() < end, "{name} is not shown");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        let mut live = authority.socket(address, "/ws");
        let mut alive = || {
            tell(&mut live, &serde_json::json!({"action": "ping", "sequenceId": 1}));
            wanted(&mut live, "pong");
        };
        until("CN=first");
        authority.issue(&folder, "second", 2999);
        until("CN=second");
        alive();
        std::fs::write(folder.join("certificate.pem"), "broken").unwrap();
        std::thread::sleep(Duration::from_millis(2_500));
        assert!(authority.shown(address).contains("CN=second"));
        authority.issue(&folder, "third", 2999);
        until("CN=third");
        alive();
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn whoever_does_not_shake_hands_is_cut_and_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(dir.path(), "one", 2999);
    let (server, address) = house(dir.path(), &["server.header_timeout=1500ms", "server.shards=1"]).await;
    blocking(move || {
        let dumb = |bytes: &[u8]| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.write_all(bytes).unwrap();
            socket
        };
        let ended = |mut socket: TcpStream| {
            let mut rest = Vec::new();
            match socket.read_to_end(&mut rest) {
                Ok(_) => rest,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => rest,
                Err(error) => panic!("it is not cut: {error}"),
            }
        };
        // Two hundred that say nothing, one that begins and stalls, one that speaks plain HTTP.
        let silent: Vec<TcpStream> = (0..200).map(|_| dumb(b"")).collect();
        let stalled = dumb(&[0x16, 3, 1, 2, 0, 1, 0]);
        let plain = ended(dumb(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!(!plain.starts_with(b"HTTP"), "nothing is answered in the clear");
        let before = roundtable::clock::monotonic_ms();
        assert!(authority.get(address, "/livez").starts_with("HTTP/1.1 200"));
        assert!(roundtable::clock::monotonic_ms() - before < 1_400, "others are served meanwhile");
        for socket in silent.into_iter().chain([stalled]) {
            assert!(ended(socket).is_empty());
        }
        // After the handshake the same time-out goes on.
        let mut slow = authority.connect(address);
        slow.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_stalls_delays_nobody_and_gets_everything_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(dir.path(), "one", 2999);
    let more = [
        "server.shards=1",
        "limits.queue=64KiB",
        "limits.stall_timeout=5m",
        "megabot.frames_per_second=off",
        "websocket.compression=false",
    ];
    let (server, address) = house(dir.path(), &more).await;
    blocking(move || {
        let join = serde_json::json!({"id": "j", "type": "session_join", "payload": {"session_id": "hall"}});
        let mut sockets: Vec<_> = (0..3).map(|_| authority.socket(address, "/megabot/ws")).collect();
        for socket in &mut sockets {
            tell(socket, &join);
            wanted(socket, "session_joined");
        }
        let [speaker, reader, stalled] = sockets.as_mut_slice() else { unreachable!() };
        let content = "y".repeat(8_000);
        for n in 0..1_500 {
            let chat = serde_json::json!({
                "type": "chat_send", "id": format!("m{n}"), "payload": {"content": content, "session_id": "hall"},
            });
            tell(speaker, &chat);
            wanted(reader, "chat_receive");
        }
        // 12 MB: far more than waits for it anywhere.
        for _ in 0..1_500 {
            wanted(stalled, "chat_receive");
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn dashboards_hear_of_an_expired_certificate_and_of_encryption() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(dir.path(), "fresh", 2999);
    let (server, address) = house(dir.path(), &[]).await;
    let folder = dir.path().to_owned();
    // As the operator makes it.
    let order = TokenOrder {
        family: Family::OpenAgi,
        subject: Principal::parse("node:watcher").unwrap(),
        incarnation: Incarnation { born: Offset(1), ..Incarnation::default() },
        workspace: WorkspaceId::new("default").unwrap(),
        ttl_s: 600,
        claims: serde_json::Value::Null,
    };
    let token = server.hub.identity.issue(&order).unwrap().token;
    blocking(move || {
        let mut stream = authority.connect(address);
        write!(stream, "GET /api/v1/security/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n").unwrap();
        let mut status = String::new();
        stream.read_to_string(&mut status).unwrap();
        assert!(status.contains(r#""encryption_status":"active""#), "{status}");
        let mut socket = authority.socket(address, &format!("/api/v1/ws?token={token}"));
        tell(&mut socket, &serde_json::json!({"type": "subscribe", "channel": "security_events"}));
        wanted(&mut socket, "subscribed");
        authority.issue(&folder, "stale", 2020);
        let event = wanted(&mut socket, "security_event");
        assert_eq!(event["event"], "certificate_expired");
        assert!(event["data"]["subject"].as_str().unwrap().contains("CN=stale"), "{event}");
        assert_eq!(event["data"]["expired_at"], "2020-01-02T00:00:00.000Z");
        assert_eq!(event["data"]["fingerprint"].as_str().unwrap().len(), 64);
        assert!(event["data"]["node_id"].is_string());
    })
    .await;
    server.stop().await;
}
