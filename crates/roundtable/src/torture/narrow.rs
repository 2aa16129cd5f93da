//! Clients that take little at a time: small buffers of the system, a modest pace, long-polling.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use roundtable_dialects::engineio::PING;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::line::{Attempt, Heard, heard};

/// Bytes in a second of somebody who reads at a modest pace.
const PACE: u64 = 1_000_000;
/// How long a poll may wait for an answer: longer than between two pings.
const POLL: Duration = Duration::from_secs(40);
/// Bytes of one answer to a poll, at most.
const MOST: u64 = 8 << 20;

/// A connection of which little fits into the system's buffers, so that the rest waits in the server.
pub async fn connect(to: SocketAddr) -> Attempt<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4 << 10)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_mss(1_200)?;
    socket.set_nonblocking(true)?;
    Ok(TcpSocket::from_std_stream(socket.into()).connect(to).await?)
}

/// Waits as long as so many bytes take at a modest pace.
pub async fn take_time(bytes: usize) {
    tokio::time::sleep(Duration::from_micros(bytes as u64 * 1_000_000 / PACE)).await;
}

/// A Socket.IO client that polls, at a modest pace.
pub struct Poller {
    agent: ureq::Agent,
    url: String,
    came: VecDeque<String>,
}

impl Poller {
    /// Opens a session and asks to be let into a namespace.
    pub async fn open(to: SocketAddr, namespace: &str, auth: &Value) -> Attempt<Self> {
        let config = ureq::Agent::config_builder().proxy(None).timeout_global(Some(POLL)).build();
        let agent = ureq::Agent::new_with_config(config);
        let url = format!("http://{to}/socket.io/?EIO=4&transport=polling");
        let mut poller = Self { agent, url, came: VecDeque::new() };
        let first = poller.get().await?;
        let open: Value = serde_json::from_str(first.strip_prefix('0').ok_or("no open packet")?)?;
        let sid = open.get("sid").and_then(Value::as_str).ok_or("no session")?;
        poller.url = format!("{}&sid={sid}", poller.url);
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        poller.post(format!("40{prefix}{auth}")).await?;
        Ok(poller)
    }

    async fn get(&self) -> Attempt<String> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let asked = tokio::task::spawn_blocking(move || -> Attempt<String> {
            let mut response = agent.get(url).call()?;
            Ok(response.body_mut().with_config().limit(MOST).read_to_string()?)
        });
        asked.await?
    }

    async fn post(&self, body: String) -> Attempt<()> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        tokio::task::spawn_blocking(move || agent.post(url).send(body).map(drop)).await??;
        Ok(())
    }

    /// What comes next. Fails when the session ends.
    pub async fn next(&mut self) -> Attempt<Heard> {
        loop {
            let Some(packet) = self.came.pop_front() else {
                let body = self.get().await?;
                take_time(body.len()).await;
                self.came.extend(body.split('\u{1e}').map(str::to_owned));
                continue;
            };
            match packet.strip_prefix('4') {
                Some(packet) => return heard(packet),
                None if packet == PING => self.post("3".into()).await?,
                None if packet == "6" => {}
                None => return Err(format!("the session ended: {packet}").into()),
            }
        }
    }
}
