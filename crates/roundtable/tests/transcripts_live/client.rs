//! Clients of the transcripts' own: a WebSocket, Socket.IO framed by hand on one, and plain HTTP requests.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use roundtable::clock;
use roundtable_dialects::transcript::line::{Transport, word};
use roundtable_dialects::transcript::{Door, Got, frame};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// How long something that must come may take, in milliseconds.
pub const PATIENCE: u64 = 10_000;

/// One client.
pub struct Client {
    door: Door,
    address: SocketAddr,
    socket: Option<WebSocket<TcpStream>>,
    got: VecDeque<Got>,
    /// The event whose attachments are still to come, and how many.
    unfinished: Option<(String, usize)>,
    over: bool,
    pings: u64,
}

/// What a read came to.
enum Read {
    Something,
    Nothing,
}

impl Client {
    /// Comes to a door; on Socket.IO the CONNECT packet is sent.
    pub fn come(door: &Door, address: SocketAddr) -> Result<Self, String> {
        let mut client = Self {
            door: door.clone(),
            address,
            socket: None,
            got: VecDeque::new(),
            unfinished: None,
            over: false,
            pings: 0,
        };
        if door.transport == Transport::Http {
            return Ok(client);
        }
        client.connect()?;
        if door.transport == Transport::SocketIo {
            let auth = door.auth.clone().unwrap_or_default();
            client.put(Message::text(match door.namespace.as_str() {
                "/" => format!("40{auth}"),
                other => format!("40{other},{auth}"),
            }))?;
        }
        Ok(client)
    }

    fn connect(&mut self) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| format!("no connection: {error}");
        let mut query = self.door.query.clone();
        if self.door.transport == Transport::SocketIo {
            let more = if query.is_empty() { "" } else { "&" };
            query = format!("EIO=4&transport=websocket{more}{query}");
        }
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("ws://{}{}{mark}{query}", self.address, self.door.path);
        let mut request = url.into_client_request().map_err(|error| said(&error))?;
        let mut header = |name: &'static str, value: &Option<String>| {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                request.headers_mut().insert(name, value);
            }
        };
        header("authorization", &self.door.authorization);
        header("x-api-key", &self.door.api_key);
        let stream = TcpStream::connect(self.address).map_err(|error| said(&error))?;
        stream.set_nodelay(true).map_err(|error| said(&error))?;
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => self.socket = Some(socket),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let body = response.body().clone().unwrap_or_default();
                let text = String::from_utf8_lossy(&body);
                self.got.push_back(Got::Frame(
                    format!("{} {text}", response.status().as_u16()).trim_end().into(),
                ));
                self.over = true;
            }
            Err(error) => return Err(said(&error)),
        }
        Ok(())
    }

    /// Whether its connection has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn put(&mut self, message: Message) -> Result<(), String> {
        let socket = self.socket.as_mut().ok_or("the connection was refused")?;
        socket.send(message).map_err(|error| format!("not sent: {error}"))
    }

    /// Sends what a transcript has.
    pub fn send(&mut self, text: &str) -> Result<(), String> {
        match self.door.transport {
            Transport::Http => self.request(text),
            Transport::SocketIo => self.emit(text),
            Transport::WebSocket => match text.strip_prefix("binary ").map(frame::bytes_of) {
                Some(Ok(bytes)) => self.put(Message::binary(bytes)),
                _ => self.put(Message::text(text)),
            },
        }
    }

    fn emit(&mut self, text: &str) -> Result<(), String> {
        let (args, kind, number, attachments) = match frame::packet(text)? {
            frame::Packet::Event { name, args, ack, attachments } => {
                let name = serde_json::Value::from(name).to_string();
                let args = std::iter::once(name).chain(args.iter().map(|arg| arg.get().to_owned()));
                (args.collect::<Vec<_>>(), (2, 5), ack, attachments)
            }
            frame::Packet::Answer { number, args, attachments } => {
                let args = args.iter().map(|arg| arg.get().to_owned());
                (args.collect(), (3, 6), Some(number), attachments)
            }
        };
        let head = match attachments.len() {
            0 => format!("4{}", kind.0),
            many => format!("4{}{many}-", kind.1),
        };
        let namespace = match self.door.namespace.as_str() {
            "/" => String::new(),
            other => format!("{other},"),
        };
        let number = number.map(|number| number.to_string()).unwrap_or_default();
        self.put(Message::text(format!("{head}{namespace}{number}[{}]", args.join(","))))?;
        attachments.into_iter().try_for_each(|bytes| self.put(Message::binary(bytes)))
    }

    fn request(&mut self, text: &str) -> Result<(), String> {
        let (method, rest) = word(text);
        let (target, mut body) = word(rest);
        let (mut authorization, mut api_key) = (self.door.authorization.clone(), self.door.api_key.clone());
        let mut channel_key = None;
        while let Some((option, value)) =
            word(body).0.split_once('=').filter(|(name, _)| !name.starts_with(['{', '[']))
        {
            match option {
                "bearer" => authorization = Some(format!("Bearer {value}")),
                "channel-key" => channel_key = value.split_once(':'),
                _ => api_key = Some(value.to_owned()),
            }
            body = word(body).1;
        }
        let header =
            |name: &str, value: Option<String>| value.map_or(String::new(), |v| format!("{name}: {v}\r\n"));
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}{}{}{}\r\n",
            self.address,
            body.len(),
            header("Authorization", authorization),
            header("X-API-Key", api_key),
            header("X-Key-Id", channel_key.map(|(id, _)| id.to_owned())),
            header("X-Secret-Key", channel_key.map(|(_, secret)| secret.to_owned())),
        );
        let talk = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(Duration::from_millis(PATIENCE)))?;
            stream.write_all(head.as_bytes())?;
            stream.write_all(body.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = talk().map_err(|error| format!("no answer: {error}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("half an answer")?;
        let status = head.split_whitespace().nth(1).ok_or("no status")?;
        self.got.push_back(Got::Frame(format!("{status} {body}").trim_end().to_owned()));
        Ok(())
    }

    /// Waits until the server has read what was sent: it answers a ping after that.
    pub fn settle(&mut self) {
        if self.over || self.socket.is_none() {
            return;
        }
        self.pings += 1;
        let payload = self.pings.to_be_bytes().to_vec();
        if self.put(Message::Ping(payload.clone().into())).is_err() {
            return;
        }
        let until = clock::monotonic_ms() + PATIENCE;
        while !self.over && clock::monotonic_ms() < until {
            if let Some(Message::Pong(pong)) = self.read(100)
                && pong.as_ref() == payload
            {
                return;
            }
        }
    }

    /// Goes, with a close frame.
    pub fn leave(&mut self) {
        if let Some(socket) = &mut self.socket {
            let _ = socket.close(None);
            let until = clock::monotonic_ms() + PATIENCE;
            while !self.over && clock::monotonic_ms() < until {
                self.read(100);
            }
        }
        self.over = true;
        self.socket = None;
        self.got.clear();
    }

    /// The next thing that came, waiting for it at most so many milliseconds.
    pub fn next(&mut self, wait: u64) -> Option<Got> {
        let until = clock::monotonic_ms() + wait;
        while self.got.is_empty() && !self.over && self.socket.is_some() {
            let left = until.saturating_sub(clock::monotonic_ms());
            if left == 0 && matches!(self.take_one(1), Read::Nothing) {
                break;
            }
            self.take_one(left.clamp(1, 200));
        }
        self.got.pop_front()
    }

    fn take_one(&mut self, wait: u64) -> Read {
        if self.read(wait).is_some() { Read::Something } else { Read::Nothing }
    }

    /// Reads one message, if one comes in time; what a transcript shows goes into `got`.
    fn read(&mut self, wait: u64) -> Option<Message> {
        let socket = self.socket.as_mut()?;
        let _ = socket.get_ref().set_read_timeout(Some(Duration::from_millis(wait)));
        match socket.read() {
            Ok(message) => {
                self.understand(&message);
                Some(message)
            }
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                None
            }
            Err(_) => {
                self.end(String::new());
                None
            }
        }
    }

    fn end(&mut self, why: String) {
        let told = self.got.iter().any(|got| matches!(got, Got::End(_)));
        if !self.over && !told {
            self.got.push_back(Got::End(why));
        }
        self.over = true;
    }

    fn understand(&mut self, message: &Message) {
        match (message, self.door.transport) {
            (Message::Close(Some(close)), Transport::WebSocket) => {
                self.end(format!("{} {}", u16::from(close.code), close.reason));
            }
            (Message::Close(_), _) => self.end(String::new()),
            (Message::Text(text), Transport::WebSocket) => self.got.push_back(Got::Frame(text.to_string())),
            (Message::Binary(bytes), Transport::WebSocket) => {
                self.got.push_back(Got::Frame(format!("binary {}", frame::hex(bytes))));
            }
            (Message::Text(text), _) => self.packet(text.as_str()),
            (Message::Binary(bytes), _) => self.attachment(bytes),
            _ => {}
        }
    }

    /// An Engine.IO packet.
    fn packet(&mut self, text: &str) {
        match text.split_at_checked(1) {
            Some(("2", _)) => {
                let _ = self.put(Message::text("3"));
            }
            Some(("4", packet)) => self.socketio(packet),
            _ => {}
        }
    }

    fn socketio(&mut self, packet: &str) {
        let Some((kind, mut rest)) = packet.split_at_checked(1) else { return };
        let mut attachments = 0;
        if let ("5" | "6", Some((count, after))) = (kind, rest.split_once('-')) {
            attachments = count.parse().unwrap_or(0);
            rest = after;
        }
        if let Some(after) =
            rest.strip_prefix(self.door.namespace.as_str()).filter(|_| self.door.namespace != "/")
        {
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, body) = rest.split_at_checked(digits).unwrap_or(("", rest));
        let shown = match kind {
            "0" => "connect".to_owned(),
            "1" => return self.end(String::new()),
            "4" => {
                self.got.push_back(Got::Frame(format!("connect_error {rest}")));
                return;
            }
            "2" | "5" if id.is_empty() => body.to_owned(),
            "2" | "5" => format!("{body} #{id}"),
            _ => format!("ack {id} {body}"),
        };
        if attachments > 0 {
            self.unfinished = Some((shown, attachments));
        } else {
            self.got.push_back(Got::Frame(shown));
        }
    }

    fn attachment(&mut self, bytes: &[u8]) {
        let Some((mut shown, missing)) = self.unfinished.take() else { return };
        shown.push_str(&format!(" +{}", frame::hex(bytes)));
        if missing > 1 {
            self.unfinished = Some((shown, missing - 1));
        } else {
            self.got.push_back(Got::Frame(shown));
        }
    }
}
