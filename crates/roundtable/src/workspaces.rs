//! The thread on which the runners of all workspaces run, and how a workspace begins there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roundtable_core::cluster::{NodeJoined, NodeLeft, SERVER, ServerStarted};
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{NodeId, Principal, WorkspaceId};
use roundtable_dialects::session::{Ask, Token};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::runner::batch::Question;
use crate::runner::{Handle, ReplyTo, Workspaces};

/// Between two questions whether a log takes something again.
const KNOCK: Duration = Duration::from_secs(1);

/// The thread. Workspaces begin on it at the start, and later ones while it runs.
pub struct EngineThread {
    runtime: tokio::runtime::Handle,
    running: Mutex<Option<Running>>,
}

/// What there is until the thread is told to end.
struct Running {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    runners: Vec<JoinHandle<()>>,
}

impl EngineThread {
    /// Starts the thread. Fails when the system gives none.
    pub fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || drop(runtime.block_on(stopped));
        let thread = std::thread::Builder::new().name("engine".into()).spawn(run)?;
        let running = Mutex::new(Some(Running { stop, thread, runners: Vec::new() }));
        Ok(Self { runtime: handle, running })
    }

    /// Runs a workspace from its log, empty or not; one that runs already stays as it is. Reads the disk in the caller's
    /// thread. Fails when the log cannot be read, and with `Unavailable` once the server ends.
    pub fn run(&self, workspaces: &Workspaces, id: &WorkspaceId) -> Result<Handle, Error> {
        let ending = || Error::new(ErrorKind::Unavailable, "the server is shutting down");
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.as_mut().ok_or_else(ending)?;
        if let Some(handle) = workspaces.get(id) {
            return Ok(handle);
        }
        let runner = workspaces.start(id)?;
        running.runners.push(self.runtime.spawn(runner));
        workspaces.get(id).ok_or_else(ending)
    }

    /// Lets every runner end once what was asked before is answered, then ends the thread. Does not wait longer than `within`.
    pub async fn stop(&self, workspaces: &Workspaces, within: Duration) {
        let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        workspaces.stop();
        let ended = async {
            for runner in running.runners {
                // A runner that failed has ended the process.
                let _ = runner.await;
            }
        };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!("not all that was asked could be answered before the end");
        }
        let _ = running.stop.send(());
        let _ = tokio::task::spawn_blocking(move || running.thread.join()).await;
    }
}

/// This server process as each workspace's log knows it.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Its name.
    pub node: NodeId,
    /// Where it is reached first.
    pub address: Option<SocketAddr>,
}

impl Announcement {
    /// Tells a workspace that the process began and is part of the network. While the log takes nothing, as on a full disk, it
    /// [waits](Begun::Waits): the runner writes it before anything else, with the next batch that the log takes.
    pub async fn begin(&self, home: &Handle) -> Result<Begun, Error> {
        let version = env!("CARGO_PKG_VERSION").into();
        let started = Command::StartServer(ServerStarted { node: self.node.clone(), version });
        let ask = Ask::new(Token(0), started);
        home.put(Question { by: Principal::System, connection: None, ask, reply: ReplyTo::Nobody });
        let joined = NodeJoined {
            node: self.node.clone(),
            address: self.address.as_ref().map(ToString::to_string).unwrap_or_default(),
            kind: SERVER.into(),
            capabilities: ["mxf", "aiwm", "hive", "open-agi", "megabot"].map(String::from).into(),
        };
        match ask_system(home, Command::JoinNetwork(joined)).await {
            Ok(()) => Ok(Begun::Noted),
            Err(error) if error.kind == ErrorKind::Unavailable && home.runs() => {
                tracing::warn!(workspace = %home.workspace(), %error, "the log takes nothing yet; what it holds is served");
                Ok(Begun::Waits)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells a workspace that the process is about to end.
    pub async fn end(&self, home: &Handle) -> Result<(), Error> {
        ask_system(home, Command::LeaveNetwork(NodeLeft::new(self.node.clone(), "leave"))).await
    }
}

/// Whether a workspace's log knows that the process began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// It does.
    Noted,
    /// It will, as soon as the log takes something.
    Waits,
}

/// Asks these workspaces again and again, until their logs have taken what waits for them.
pub async fn knock(workspaces: Arc<Workspaces>, mut waiting: Vec<WorkspaceId>) {
    while !waiting.is_empty() {
        tokio::time::sleep(KNOCK).await;
        let mut left = Vec::new();
        for id in waiting {
            let home = workspaces.get(&id);
            if let Some(home) = home
                && ask_system(&home, Command::Look).await.is_err()
            {
                left.push(id);
            }
        }
        waiting = left;
    }
}

/// What the server itself asks.
pub async fn ask_system(home: &Handle, command: Command) -> Result<(), Error> {
    home.ask(&Principal::System, Ask::new(Token(0), command)).await.map(drop)
}
