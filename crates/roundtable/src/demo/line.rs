//! A client's connection: JSON frames of a plain WebSocket, or events of one Socket.IO namespace.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use roundtable_dialects::engineio::PING;
use roundtable_dialects::socketio::encode::{Address, event_of};
use roundtable_dialects::socketio::{Kind, MAIN, Packet};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// What went wrong, in words.
pub type Attempt<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long a client waits for one answer; less than the whole demo may take, so that it can say what did not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events and frame types by which the dialects refuse something.
const REFUSALS: [&str; 5] = ["error", "auth:error", "message:error", "connect_error", "connection_error"];
/// What an acknowledgement is heard as.
pub const ANSWER: &str = "(answer)";

/// One open connection.
pub struct Line {
    /// Whose.
    pub who: &'static str,
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Of Socket.IO; none on a plain WebSocket.
    namespace: Option<&'static str>,
}

impl Line {
    /// A plain WebSocket whose every frame is a JSON object.
    pub async fn plain(who: &'static str, url: &str) -> Attempt<Self> {
        let (stream, _) = timeout(PATIENCE, connect_async(url)).await??;
        Ok(Self { who, stream, namespace: None })
    }

    /// A Socket.IO client that `auth` lets into one namespace.
    pub async fn socketio(
        who: &'static str,
        host: &str,
        namespace: &'static str,
        auth: &Value,
    ) -> Attempt<Self> {
        let url = format!("ws://{host}/socket.io/?EIO=4&transport=websocket");
        let mut line = Self { namespace: Some(namespace), ..Self::plain(who, &url).await? };
        let prefix = if namespace == MAIN { String::new() } else { format!("{namespace},") };
        line.stream.send(Message::text(format!("40{prefix}{auth}"))).await?;
        line.wait_for("connect").await?;
        Ok(line)
    }

    /// Sends an event; on a plain WebSocket `data` is the whole frame.
    pub async fn say(&mut self, event: &str, data: &Value) -> Attempt<()> {
        let text = match self.namespace {
            Some(namespace) => event_of(Address { namespace, name: event, ack: Some(1) }, data)?,
            None => data.to_string(),
        };
        Ok(self.stream.send(Message::text(text)).await?)
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
        loop {
            let text = match self.stream.next().await.ok_or("the connection has ended")?? {
                Message::Text(text) => text,
                Message::Close(frame) => return Err(format!("the server closed: {frame:?}").into()),
                _ => continue,
            };
            let (name, data) = match (self.namespace, text.strip_prefix('4')) {
                (None, _) => {
                    let frame: Value = serde_json::from_str(&text)?;
                    (frame.get("type").and_then(Value::as_str).unwrap_or_default().to_owned(), frame)
                }
                (Some(_), Some(packet)) => event(packet)?,
                (Some(_), None) if text.as_str() == PING => {
                    self.stream.send(Message::text("3")).await?;
                    continue;
                }
                (Some(_), None) => continue,
            };
            if REFUSALS.contains(&name.as_str()) || data.get("success") == Some(&Value::Bool(false)) {
                return Err(format!("the server refused: {name} {data}").into());
            }
            return Ok((name, data));
        }
    }
}

/// A Socket.IO packet as a name and one argument.
fn event(packet: &str) -> Attempt<(String, Value)> {
    let packet = Packet::parse(packet)?;
    let data: Value = serde_json::from_str(if packet.data.is_empty() { "null" } else { packet.data })?;
    let item = |index| data.get(index).cloned().unwrap_or_default();
    Ok(match packet.kind {
        Kind::Connect => ("connect".into(), data),
        Kind::ConnectError => ("connect_error".into(), data),
        Kind::Disconnect => return Err("the server ended the namespace".into()),
        Kind::Ack | Kind::BinaryAck => (ANSWER.into(), item(0)),
        Kind::Event | Kind::BinaryEvent => (item(0).as_str().unwrap_or_default().to_owned(), item(1)),
    })
}

/// A POST with a JSON body; the JSON of a 2xx answer.
pub async fn post(url: String, bearer: &str, body: Value) -> Attempt<Value> {
    let authorization = format!("Bearer {bearer}");
    let asked = tokio::task::spawn_blocking(move || -> Attempt<Value> {
        let config = ureq::Agent::config_builder().proxy(None).timeout_global(Some(PATIENCE)).build();
        let request = ureq::Agent::new_with_config(config).post(&url);
        let request =
            request.header("authorization", authorization).header("content-type", "application/json");
        let mut response = request.send(body.to_string()).map_err(|error| format!("POST {url}: {error}"))?;
        Ok(serde_json::from_str(&response.body_mut().read_to_string()?)?)
    });
    asked.await?
}
