//! A server in a temporary folder, and clients that come to it over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use roundtable::auth::first_start::FirstCredentials;
use roundtable::config::{Config, Sources};
use roundtable::server::Server;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing happens by itself unless a test asks for it.
const QUIET: [&str; 6] = [
    "hive.status_interval=7d",
    "openagi.metric_interval=7d",
    "figures.interval=7d",
    "server.shards=2",
    "server.drain_timeout=200ms",
    "logging.level=error",
];

/// A running server.
pub struct House {
    pub server: Server,
    pub folder: tempfile::TempDir,
    pub first: FirstCredentials,
}

impl House {
    /// Starts one with these settings, on free ports: what a bare `/ws` means on each is Hive, then MegaBot.
    pub async fn open(settings: &[&str]) -> Self {
        Self::open_in(
            tempfile::tempdir().unwrap(),
            settings,
            &["127.0.0.1:0=hive".into(), "127.0.0.1:0=megabot".into()],
        )
        .await
    }

    /// Starts one on a data directory.
    pub async fn open_in(folder: tempfile::TempDir, settings: &[&str], listen: &[String]) -> Self {
        let sources = Sources {
            listen: listen.to_vec(),
            set: QUIET.iter().chain(settings).map(|setting| (*setting).to_owned()).collect(),
            data: Some(folder.path().to_owned()),
            ..Sources::default()
        };
        let server = Server::start(&Config::load(&sources).unwrap()).await.unwrap();
        let first = FirstCredentials::read(folder.path()).unwrap().unwrap();
        Self { server, folder, first }
    }

    /// Stops it and starts it again on the same data and ports.
    pub async fn again(self, settings: &[&str]) -> Self {
        let meanings = ["hive", "megabot"];
        let addresses = self.server.addresses.clone().into_iter().flatten().zip(meanings);
        let listen: Vec<String> = addresses.map(|(address, means)| format!("{address}={means}")).collect();
        self.server.stop().await;
        Self::open_in(self.folder, settings, &listen).await
    }

    pub async fn close(self) {
        self.server.stop().await;
    }

    pub fn address(&self, number: usize) -> SocketAddr {
        self.server.addresses[number].unwrap()
    }

    /// A token for an Open-A.G.I node, made by the operator.
    pub async fn node_token(&self, node: &str) -> String {
        let (status, answer) = self.admin("POST /admin/v1/tokens", json!({"node": node})).await;
        assert_eq!(status, 201, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// One request to a listener.
    pub async fn http(&self, number: usize, what: &str, bearer: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, _, body) = self.whole(number, what, bearer, &body).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// The same with any body; the status, the head and the body of the answer.
    pub async fn whole(&self, number: usize, what: &str, bearer: &str, body: &str) -> (u16, String, String) {
        let credential =
            if bearer.is_empty() { String::new() } else { format!("Authorization: Bearer {bearer}\r\n") };
        self.with_head(number, what, &credential, body).await
    }

    /// The same with further lines of the head, each with its end.
    pub async fn with_head(
        &self,
        number: usize,
        what: &str,
        lines: &str,
        body: &str,
    ) -> (u16, String, String) {
        let host = if lines.starts_with("Host:") { "" } else { "Host: localhost\r\n" };
        let head = format!("{host}Connection: close\r\nContent-Length: {}\r\n{lines}", body.len());
        let mut socket = TcpStream::connect(self.address(number)).await.unwrap();
        socket.write_all(format!("{what} HTTP/1.1\r\n{head}\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    /// A listener, for what only the server itself asks.
    pub fn listener(&self, number: usize) -> roundtable::transport::Listener {
        roundtable::transport::Listener {
            address: self.address(number),
            number,
            anonymous: true,
            tls: None,
            proxy_protocol: false,
            watch_only: false,
        }
    }

    /// One request of the operator's.
    pub async fn admin(&self, what: &str, body: Value) -> (u16, Value) {
        self.http(0, what, &self.first.admin_token, &body).await
    }

    /// Somebody who watches channels of Open-A.G.I.
    pub async fn watcher(&self, channels: &[&str]) -> Client {
        let token = self.node_token("watcher").await;
        let mut client = Client::come(self.address(0), &format!("/openagi/ws?token={token}")).await.unwrap();
        client.send(&json!({"type": "subscribe", "channels": channels})).await;
        assert_eq!(client.next().await["type"], "subscribed");
        client
    }
}

/// A WebSocket.
pub struct Client(WebSocketStream<TcpStream>);

impl Client {
    /// Comes to a path; refused before the upgrade, the status and the body tell why.
    pub async fn come(address: SocketAddr, path: &str) -> Result<Self, (u16, Value)> {
        Self::over(TcpStream::connect(address).await.unwrap(), address, path).await
    }

    /// The same over a connection that there is.
    pub async fn over(stream: TcpStream, address: SocketAddr, path: &str) -> Result<Self, (u16, Value)> {
        match tokio_tungstenite::client_async(format!("ws://{address}{path}"), stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(body).unwrap_or(Value::Null)))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Says good-bye and goes.
    pub async fn bye(mut self) {
        let _ = self.0.close(None).await;
    }

    pub async fn send(&mut self, frame: &Value) {
        self.say(&frame.to_string()).await;
    }

    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next text, if one comes before the end.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("something must come") {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        serde_json::from_str(&self.text().await.expect("a frame")).unwrap()
    }

    /// The `data` of the next frame with this event or type, and the time it was sent; others are passed over.
    pub async fn event(&mut self, name: &str) -> Value {
        self.event_where(name, |_| true).await
    }

    /// The same, of which something is so.
    pub async fn event_where(&mut self, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let frame = self.next().await;
                if (frame["event"] == name || frame["type"] == name) && is_so(&frame["data"]) {
                    return frame["data"].clone();
                }
            }
        };
        tokio::time::timeout(2 * PATIENCE, found).await.unwrap_or_else(|_| panic!("{name} must come"))
    }

    /// The next binary message.
    pub async fn binary(&mut self) -> Vec<u8> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("something must come") {
                Some(Ok(Message::Binary(bytes))) => return bytes.to_vec(),
                Some(Ok(Message::Close(_)) | Err(_)) | None => panic!("it ended"),
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.0.send(Message::binary(bytes)).await.unwrap();
    }

    /// Reads on to the end; code and reason of the close frame.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("something must come") {
                Some(Ok(Message::Close(Some(close)))) => {
                    return (close.code.into(), close.reason.to_string());
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => panic!("it ended without a reason"),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Waits until the server has cut or closed it.
    pub async fn end(&mut self) {
        while self.text().await.is_some() {}
    }
}

/// Somebody else who writes to the log's file: while it does, the server's own writes have to wait.
pub struct Lock(std::sync::Arc<std::sync::atomic::AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Lock {
    /// Holds it once, for so many milliseconds; returns when it is held.
    pub fn once(folder: &std::path::Path, ms: u64) -> Self {
        Self::hold(folder, ms, false)
    }

    /// Holds it for so many milliseconds at a time, as often as it can, until it is dropped.
    pub fn again_and_again(folder: &std::path::Path, ms: u64) -> Self {
        Self::hold(folder, ms, true)
    }

    fn hold(folder: &std::path::Path, ms: u64, again: bool) -> Self {
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let file = rusqlite::Connection::open(folder.join("roundtable.db")).unwrap();
        file.busy_timeout(PATIENCE).unwrap();
        let (held, is_held) = std::sync::mpsc::channel();
        let flag = std::sync::Arc::clone(&over);
        let work = move || {
            loop {
                file.execute_batch("BEGIN IMMEDIATE").unwrap();
                let _ = held.send(());
                std::thread::sleep(Duration::from_millis(ms));
                file.execute_batch("ROLLBACK").unwrap();
                if !again || flag.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                // The server gets its turn: it looks again every 100 ms.
                std::thread::sleep(Duration::from_millis(150));
            }
        };
        let thread = std::thread::spawn(work);
        is_held.recv().unwrap();
        Self(over, Some(thread))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}
