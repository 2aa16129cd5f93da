//! The servers that are compared, and how each is started.
use crate::child::Running;
use crate::prepare::Tools;
use crate::roundtable;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server in one of the ways it is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    UWebSockets,
    Bun,
    TokioWebsockets,
    NodeWs,
    Socketioxide,
    NodeSocketIo,
    Roundtable {
        dialect: Dialect,
        durable: bool,
    },
    /// SQLite without any server, so many rows per commit.
    Sqlite {
        batch: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Plain WebSocket.
    MegaBot,
    /// Socket.IO.
    Mxf,
}

/// What a row asks of a server before the load comes.
pub struct Setting<'a> {
    /// Rooms PREFIX-0, PREFIX-1, … that are made beforehand where a server wants that.
    pub rooms: usize,
    /// Whether those who come back get what they missed, where a server has to be told.
    pub recovery: bool,
    /// Processors the server may use, in the words of taskset.
    pub cpus: Option<&'a str>,
}

/// A server ready to be loaded.
pub struct Started {
    pub process: Running,
    pub addr: String,
    /// Object for Socket.IO CONNECT, if the server asks for one.
    pub auth: Option<String>,
    /// Goes with the server: its data.
    _data: Option<tempfile::TempDir>,
    /// By which the process was started.
    command: Command,
}

pub const PREFIX: &str = "bench";

impl Contender {
    pub fn name(self) -> String {
        match self {
            Contender::UWebSockets => "uWebSockets".into(),
            Contender::Bun => "Bun".into(),
            Contender::TokioWebsockets => "tokio-websockets".into(),
            Contender::NodeWs => "Node ws".into(),
            Contender::Socketioxide => "socketioxide".into(),
            Contender::NodeSocketIo => "Node socket.io".into(),
            Contender::Roundtable { dialect, durable } => {
                let dialect = if dialect == Dialect::Mxf { "MXF" } else { "MegaBot" };
                format!("Roundtable {dialect} {}", if durable { "durable" } else { "ephemeral" })
            }
            Contender::Sqlite { batch: 1 } => "SQLite alone, 1 row per commit".into(),
            Contender::Sqlite { batch } => format!("SQLite alone, {batch} rows per commit"),
        }
    }

    /// The generator's word for the protocol.
    pub fn protocol(self) -> &'static str {
        match self {
            Contender::Socketioxide | Contender::NodeSocketIo => "socketio",
            Contender::Roundtable { dialect: Dialect::Mxf, .. } => "mxf",
            Contender::Roundtable { dialect: Dialect::MegaBot, .. } => "megabot",
            _ => "plain",
        }
    }

    /// Whether it can be measured here.
    pub fn available(self, tools: &Tools) -> bool {
        match self {
            Contender::UWebSockets => tools.uwebsockets.is_some(),
            Contender::Bun => tools.bun.is_some(),
            Contender::NodeWs | Contender::NodeSocketIo => tools.node.is_some(),
            Contender::Roundtable { .. } => tools.roundtable.is_some(),
            _ => true,
        }
    }

    pub fn start(self, tools: &Tools, setting: &Setting) -> Result<Started, String> {
        if let Contender::Roundtable { durable, .. } = self {
            return roundtable::start(tools, setting, durable);
        }
        let (program, script) = self.program(tools)?;
        let mut command = pinned(&program, setting.cpus);
        if let (Some(script), Some(node)) = (script, &tools.node) {
            command.arg(node.join(script)).current_dir(node);
        }
        let port = free_port()?;
        match self {
            Contender::TokioWebsockets | Contender::Socketioxide => command.arg("--port"),
            _ => &mut command,
        }
        .arg(port.to_string());
        if setting.recovery {
            command.arg("recovery");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Running::start(&self.name(), &mut command)?;
        let addr = format!("127.0.0.1:{}", process.ready()?);
        Ok(Started { process, addr, auth: None, _data: None, command })
    }

    fn program(self, tools: &Tools) -> Result<(PathBuf, Option<&'static str>), String> {
        let missing = || format!("{} is not available here", self.name());
        match self {
            Contender::UWebSockets => Ok((tools.uwebsockets.clone().ok_or_else(missing)?, None)),
            Contender::Bun => Ok((tools.bun.clone().ok_or_else(missing)?, Some("bun_room.js"))),
            Contender::NodeWs => Ok(("node".into(), Some("ws_room.js"))),
            Contender::NodeSocketIo => Ok(("node".into(), Some("socketio_room.js"))),
            Contender::TokioWebsockets => Ok((tools.built.join("tokio_websockets_room"), None)),
            Contender::Socketioxide => Ok((tools.built.join("socketioxide_room"), None)),
            Contender::Roundtable { .. } | Contender::Sqlite { .. } => Err(missing()),
        }
    }
}

impl Started {
    pub fn with_data(
        (process, command): (Running, Command),
        addr: String,
        auth: String,
        data: tempfile::TempDir,
    ) -> Self {
        Started { process, addr, auth: Some(auth), _data: Some(data), command }
    }

    /// Kills the server and starts it again at the same address with the same data; how long it could not be reached.
    pub fn crash(&mut self) -> Result<Duration, String> {
        let began = Instant::now();
        self.process.kill();
        self.process = Running::start("the server, after its crash,", &mut self.command)?;
        self.process.reachable(&self.addr)?;
        Ok(began.elapsed())
    }
}

/// A port nobody has now; taken again a moment later by the server.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("free port: {e}"))?;
    Ok(listener.local_addr().map_err(|e| format!("free port: {e}"))?.port())
}

/// A command that may run on the given processors only. The process id stays the program's own.
pub fn pinned(program: &Path, cpus: Option<&str>) -> Command {
    match cpus {
        Some(cpus) => {
            let mut c = Command::new("taskset");
            c.args(["--cpu-list", cpus]).arg(program);
            c
        }
        None => Command::new(program),
    }
}
