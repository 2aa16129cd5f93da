//! A client's connection, for the demo and the torture: JSON frames of a plain WebSocket, or events of one Socket.IO
//! namespace.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use roundtable_dialects::engineio::PING;
use roundtable_dialects::socketio::encode::{Address, event_of};
use roundtable_dialects::socketio::{Kind, MAIN, Packet};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// What went wrong, in words.
pub type Attempt<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long a client waits for one answer; less than the whole demo may take, so that it can say what did not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a client's read buffer: thousands of clients may run in one process.
const READ_BUFFER: usize = 4 << 10;
/// Events and frame types by which the dialects refuse something.
const REFUSALS: [&str; 5] = ["error", "auth:error", "message:error", "connect_error", "connection_error"];
/// Where Socket.IO is, for clients that begin with a WebSocket.
pub const SOCKET_IO: &str = "/socket.io/?EIO=4&transport=websocket";
/// What an acknowledgement is heard as.
pub const ANSWER: &str = "(answer)";

/// One open connection.
pub struct Line {
    /// Whose.
    pub who: &'static str,
    stream: WebSocketStream<TcpStream>,
    /// Of Socket.IO; none on a plain WebSocket.
    namespace: Option<&'static str>,
}

/// What came over a line.
#[derive(Debug)]
pub struct Heard {
    /// The event's name or the frame's `type`; [`ANSWER`] for an acknowledgement.
    pub name: String,
    /// Its first argument, or the whole frame.
    pub data: Value,
    /// Which acknowledgement.
    pub ack: Option<u64>,
}

impl Line {
    /// A plain WebSocket whose every frame is a JSON object. `url` is `ws://ADDRESS:PORT/PATH`.
    pub async fn plain(who: &'static str, url: &str) -> Attempt<Self> {
        let host = url.split('/').nth(2).unwrap_or_default();
        let tcp = timeout(PATIENCE, TcpStream::connect(host)).await??;
        Self::over(who, tcp, url, PATIENCE).await
    }

    /// The same over a socket that is connected already; the upgrade may take `patience`.
    pub async fn over(who: &'static str, tcp: TcpStream, url: &str, patience: Duration) -> Attempt<Self> {
        tcp.set_nodelay(true)?;
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        let (stream, _) = timeout(patience, client_async_with_config(url, tcp, Some(config))).await??;
        Ok(Self { who, stream, namespace: None })
    }

    /// A Socket.IO client that `auth` lets into one namespace.
    pub async fn socketio(
        who: &'static str,
        host: &str,
        namespace: &'static str,
        auth: &Value,
    ) -> Attempt<Self> {
        let mut line = Self::plain(who, &format!("ws://{host}{SOCKET_IO}")).await?;
        line.enter(namespace, auth).await?;
        line.wait_for("connect").await?;
        Ok(line)
    }

    /// Asks to be let into a namespace: from now on it is a line of Socket.IO.
    pub async fn enter(&mut self, namespace: &'static str, auth: &Value) -> Attempt<()> {
        self.namespace = Some(namespace);
        let prefix = if namespace == MAIN { String::new() } else { format!("{namespace},") };
        Ok(self.stream.send(Message::text(format!("40{prefix}{auth}"))).await?)
    }

    /// Sends a message as it is.
    pub async fn send(&mut self, message: Message) -> Attempt<()> {
        Ok(self.stream.send(message).await?)
    }

    /// Sends an event; on a plain WebSocket `data` is the whole frame.
    pub async fn say(&mut self, event: &str, data: &Value) -> Attempt<()> {
        self.ask(event, data, 1).await
    }

    /// Sends an event that asks for the acknowledgement of this number; a plain WebSocket has none.
    pub async fn ask(&mut self, event: &str, data: &Value, ack: u64) -> Attempt<()> {
        let text = match self.namespace {
            Some(namespace) => event_of(Address { namespace, name: event, ack: Some(ack) }, data)?,
            None => data.to_string(),
        };
        self.send(Message::text(text)).await
    }

    /// Passes over everything until an event of this name comes.
    pub async fn wait_for(&mut self, event: &str) -> Attempt<()> {
        let found = async {
            while self.hear().await?.0 != event {}
            Ok(())
        };
        let found: Result<Attempt<()>, _> = timeout(PATIENCE, found).await;
        let found = found.unwrap_or_else(|_| Err(format!("`{event}` did not come").into()));
        found.map_err(|error| format!("{}: {error}", self.who).into())
    }

    /// The next event and its argument, or the next frame and its `type`. Fails when the server refuses something or the
    /// connection ends.
    pub async fn hear(&mut self) -> Attempt<(String, Value)> {
        let Heard { name, data, .. } = self.next().await?;
        if REFUSALS.contains(&name.as_str()) || data.get("success") == Some(&Value::Bool(false)) {
            return Err(format!("the server refused: {name} {data}").into());
        }
        Ok((name, data))
    }

    /// What comes next, refusals too. Fails when the connection ends. May be dropped without loss.
    pub async fn next(&mut self) -> Attempt<Heard> {
        loop {
            let text = match self.message().await? {
                Message::Text(text) => text,
                Message::Close(frame) => return Err(format!("the server closed: {frame:?}").into()),
                _ => continue,
            };
            match (self.namespace, text.strip_prefix('4')) {
                (None, _) => {
                    let data: Value = serde_json::from_str(&text)?;
                    let name = data.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
                    return Ok(Heard { name, data, ack: None });
                }
                (Some(_), Some(packet)) => return heard(packet),
                (Some(_), None) if text.as_str() == PING => self.send(Message::text("3")).await?,
                (Some(_), None) => {}
            }
        }
    }

    /// The next WebSocket message, whatever it is. Fails when the connection ends.
    pub async fn message(&mut self) -> Attempt<Message> {
        Ok(self.stream.next().await.ok_or("the connection has ended")??)
    }
}

/// A Socket.IO packet as a name and one argument.
pub fn heard(packet: &str) -> Attempt<Heard> {
    let packet = Packet::parse(packet)?;
    let data: Value = serde_json::from_str(if packet.data.is_empty() { "null" } else { packet.data })?;
    let item = |index| data.get(index).cloned().unwrap_or_default();
    let (name, data) = match packet.kind {
        Kind::Connect => ("connect".into(), data),
        Kind::ConnectError => ("connect_error".into(), data),
        Kind::Disconnect => return Err("the server ended the namespace".into()),
        Kind::Ack | Kind::BinaryAck => (ANSWER.into(), item(0)),
        Kind::Event | Kind::BinaryEvent => (item(0).as_str().unwrap_or_default().to_owned(), item(1)),
    };
    Ok(Heard { name, data, ack: packet.ack })
}

/// A POST with a JSON body; the JSON of a 2xx answer.
pub async fn post(url: String, bearer: &str, body: Value) -> Attempt<Value> {
    match request("POST", url.clone(), bearer, Some(body)).await? {
        (200..=299, answer) => Ok(answer),
        (status, answer) => Err(format!("POST {url}: {status} {answer}").into()),
    }
}

/// A request with a JSON body or none; status and body of the answer, `null` if that is no JSON.
pub async fn request(
    method: &'static str,
    url: String,
    bearer: &str,
    body: Option<Value>,
) -> Attempt<(u16, Value)> {
    let authorization = format!("Bearer {bearer}");
    let asked = tokio::task::spawn_blocking(move || -> Attempt<(u16, Value)> {
        let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false);
        let agent = ureq::Agent::new_with_config(config.timeout_global(Some(PATIENCE)).build());
        let request = ureq::http::Request::builder().method(method).uri(&url);
        let request = request.header("authorization", authorization);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.header("content-type", "application/json").body(body)?;
        let mut response = agent.run(request).map_err(|error| format!("{method} {url}: {error}"))?;
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string()?;
        Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or_default()))
    });
    asked.await?
}
