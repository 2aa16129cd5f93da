//! The whole server: opens the log, runs the workspaces, opens the doors, and closes everything in the right order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use roundtable_core::components::Health;
use roundtable_core::error::Error;
use roundtable_core::ids::{NodeId, WorkspaceId};

use crate::auth::first_start::{self, WORKSPACE};
use crate::auth::secrets::Held;
use crate::auth::{Directory, Identifier};
use crate::clock;
use crate::config::reload::Reloaded;
use crate::config::{self, BareWs, Config, Problems};
use crate::doors::FrontDoors;
use crate::live::Live;
use crate::log::Log;
use crate::log::sqlite::{OpenError, SqliteLog};
use crate::rates::Rates;
use crate::routes::FrontOffice;
use crate::runner::quotas::Quotas;
use crate::runner::{Handle, Pace, Workspaces};
use crate::telemetry;
use crate::telemetry::figures::{Counts, Sampler};
use crate::tls::{self, Pairs};
use crate::transport::listen::{Bound, Crowd, Door, bind};
use crate::transport::workers::Workers;
use crate::transport::{Doors, Hub, Settings, Shards, Started, Watched};
use crate::workspaces::{Announcement, Begun, EngineThread, ask_system, knock};

use crate::jobs::{self, components, summaries};
use crate::routes;
use crate::watch::{self, Watch};

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory or its log.
    #[error("{0}")]
    Log(#[from] OpenError),
    /// The log holds what cannot be read, or refuses to be written.
    #[error("{0}")]
    Engine(#[from] Error),
    /// Secrets or threads.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Certificates or keys.
    #[error("TLS:\n{0}")]
    Tls(String),
    /// None of the addresses could be opened.
    #[error("no address could be opened:\n{0}")]
    Addresses(String),
}

/// A running server.
pub struct Server {
    /// The bound addresses, in the order of the settings; `None` where one could not be opened.
    pub addresses: Vec<Option<SocketAddr>>,
    /// The credentials file was written just now.
    pub wrote_credentials: bool,
    /// What the shards and the REST handlers use.
    pub hub: Arc<Hub>,
    node: Announcement,
    doors: Arc<FrontDoors>,
    started: Started,
    engine: Arc<EngineThread>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// How long a stop may take.
    within: Duration,
}

/// Threads without which nothing works. (A shard whose own loop fails ends the process by itself.)
const VITAL: [&str; 2] = ["engine", "log"];

impl Server {
    /// Starts everything. Must be called within a runtime, which then drives the accept loops and the jobs.
    ///
    /// An address that cannot be opened is reported and left out; it is an error only if all of them fail.
    pub async fn start(config: &Config) -> Result<Self, ServeError> {
        let dir: PathBuf = config.storage.dir.clone();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), dir = %dir.display(), "the server starts");
        first_start::has_its_log(&dir)?;
        let log: Arc<dyn Log> = Arc::new(SqliteLog::open(&dir)?);
        let default = WorkspaceId::new(WORKSPACE)?;
        let settings = Settings::of(config);
        let prepared = Shards::prepare(settings.shards);
        let pace = pace_of(config);
        let (audience, due) = summaries::listen(prepared.shards());
        let workspaces = Workspaces::new(Arc::clone(&log), Arc::new(audience), pace, default.clone());
        workspaces.set_quotas(quotas_of(config));
        let workspaces = Arc::new(workspaces);
        let engine = Arc::new(EngineThread::start()?);
        let home = engine.run(&workspaces, &default)?;
        for id in log.workspaces()? {
            engine.run(&workspaces, &id)?;
        }
        let (secrets, wrote_credentials) = begin(&dir, &home).await?;
        let identity = identifier(&workspaces, &secrets, &config.auth)?;
        let (watch, news) = Watch::new(&config.security, Arc::clone(&workspaces));
        let pairs = pairs_of(config, &dir)?;
        let bound = open_addresses(config)?;
        let addresses = addresses_of(&bound);
        let node = Announcement {
            node: node_id(config, &dir)?,
            address: addresses.iter().flatten().next().copied(),
        };
        let own = (node.node.to_string(), tls::encrypts(&config.server.listen));
        let mut sampler = Sampler::new(own, clock::now(), &dir);
        let hub = Arc::new(Hub {
            workspaces: Arc::clone(&workspaces),
            identity: Arc::new(identity),
            figures: Arc::new(ArcSwap::from_pointee(sampler.sample(jobs::present(), Counts::default()))),
            history: Mutex::default(),
            watch: Arc::clone(&watch),
            crowd: Crowd::new(config.server.connections_per_address.most()),
            connections: 0.into(),
            watched: Watched::default(),
            workers: Workers::start(&settings)?,
            settings: Live::new(settings),
            rates: ArcSwap::from_pointee(Rates::of(config)),
            config: Arc::new(ArcSwap::from_pointee(config.clone())),
            tls: Arc::new(pairs),
            ports: ports(config, &addresses),
        });
        let unknown = announce(&node, &workspaces).await?;
        let office = FrontOffice {
            hub: Arc::clone(&hub),
            home,
            engine: Arc::clone(&engine),
            node: node.clone(),
            shards: prepared.shards(),
        };
        let router = routes::router(office, secrets.clone(), config);
        let doors = Arc::new(FrontDoors::new(config, &hub, router, secrets));
        let started = prepared.start(&hub, &(Arc::clone(&doors) as Arc<dyn Doors>))?;
        let mut tasks = serve_addresses(config, bound, &started.shards, &hub);
        tasks.push(tokio::spawn(watch::tell(watch, news)));
        tasks.extend(jobs::start(config, &hub, sampler));
        tasks.push(tokio::spawn(knock(Arc::clone(&workspaces), unknown)));
        tasks.push(summaries::work(due, workspaces));
        let within = config.server.drain_timeout.duration();
        Ok(Self { addresses, wrote_credentials, hub, node, doors, started, engine, tasks, within })
    }

    /// Takes what may change of new settings; says so in the log. Certificates are [looked after](crate::tls::renewal) on their
    /// own.
    pub fn reload(&self, new: &Config) {
        let before = self.hub.config.load();
        let Reloaded { config, taken, left } = before.reloaded(new);
        if config.logging.level != before.logging.level
            && let Err(error) = telemetry::set_level(&config.logging.level)
        {
            tracing::error!(%error, "the level of the log stays as it was");
        }
        if taken.iter().any(|name| name.ends_with("_per_minute") || name.ends_with("_per_hour")) {
            self.hub.rates.store(Arc::new(Rates::of(&config)));
        }
        self.hub.workspaces.set_quotas(quotas_of(&config));
        self.hub.settings.replace(Settings::of(&config));
        self.doors.reload(&config);
        self.hub.config.store(Arc::new(config));
        tracing::info!(changed = taken.join(", "), "the settings were read again");
        if !left.is_empty() {
            tracing::warn!(settings = left.join(", "), "these hold from the next start on");
        }
    }

    /// Ends everything in order: nobody new comes in, connections end in their dialects' ways, what they still asked is
    /// decided and synced, then the log is closed. Connections have three fifths of the time that a stop may take.
    pub async fn stop(self) {
        let began = clock::monotonic_ms();
        for task in &self.tasks {
            task.abort();
        }
        let started = self.started;
        let _ = tokio::task::spawn_blocking(move || started.stop()).await;
        // They hold the operator's way to a runner, which ends when nobody can ask it any more.
        drop(self.doors);
        for home in self.hub.workspaces.all() {
            if let Err(error) = self.node.end(&home).await {
                tracing::warn!(%error, "the end could not be noted");
            }
        }
        let log = Arc::clone(self.hub.workspaces.log());
        self.engine.stop(&self.hub.workspaces, self.within.saturating_sub(since(began))).await;
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
        tracing::info!(ms = since(began).as_millis(), "the server has stopped");
    }
}

/// Who checks credentials, knowing what the installation made.
fn identifier(
    workspaces: &Arc<Workspaces>,
    secrets: &Held,
    settings: &config::Auth,
) -> Result<Identifier, Error> {
    let directory = Arc::clone(workspaces) as Arc<dyn Directory>;
    let identity = Identifier::new(directory, &secrets.signing(), settings)?;
    Ok(identity.beside_operator(secrets.clone()))
}

/// Makes what the first start makes, or finishes it. Gives the secrets, and whether credentials were written just now.
async fn begin(dir: &std::path::Path, home: &Handle) -> Result<(Held, bool), ServeError> {
    let mut first = first_start::prepare(dir, &home.view().state)?;
    for command in first.commands {
        ask_system(home, command).await?;
    }
    if let Err(error) = first.secrets.begin(dir) {
        tracing::warn!(%error, "that the log has begun could not be noted with its secrets");
    }
    Ok((Held::new(dir, first.secrets), first.wrote_credentials))
}

/// The certificates of all listeners, noted for the command line.
fn pairs_of(config: &Config, dir: &std::path::Path) -> Result<Pairs, ServeError> {
    let pairs = Pairs::open(&config.server.listen).map_err(|found| ServeError::Tls(found.join("\n")))?;
    if let Err(error) = pairs.note(dir) {
        tracing::error!(%error, "the command line will not know this server's certificate");
    }
    Ok(pairs)
}

/// Tells every workspace that the process began; gives those whose logs take nothing at present.
async fn announce(node: &Announcement, workspaces: &Workspaces) -> Result<Vec<WorkspaceId>, Error> {
    let mut unknown = Vec::new();
    for home in workspaces.all() {
        if node.begin(&home).await? == Begun::Waits {
            unknown.push(home.workspace().clone());
        }
    }
    Ok(unknown)
}

/// How long ago a moment is, in monotonic milliseconds.
fn since(began: u64) -> Duration {
    Duration::from_millis(clock::monotonic_ms().saturating_sub(began))
}

/// Opens what can be opened; the others are reported.
fn open_addresses(config: &Config) -> Result<Vec<std::io::Result<Bound>>, ServeError> {
    let listeners = config.server.listen.as_slice();
    let bound: Vec<_> = listeners.iter().map(|listener| bind(listener.address)).collect();
    let failures: Vec<String> = listeners
        .iter()
        .zip(&bound)
        .filter_map(|(listener, bound)| {
            let error = bound.as_ref().err()?;
            tracing::error!(address = %listener.address, %error, "this address could not be opened");
            Some(format!("{}: {error}", listener.address))
        })
        .collect();
    if bound.iter().all(Result::is_err) {
        return Err(ServeError::Addresses(failures.join("\n")));
    }
    Ok(bound)
}

fn pace_of(config: &Config) -> Pace {
    Pace {
        relaxed_sync: config.storage.relaxed_sync.duration(),
        snapshot: config.storage.snapshot_interval.duration(),
        last_snapshot: config.server.drain_timeout.duration() / 5,
    }
}

fn quotas_of(config: &Config) -> Quotas {
    Quotas {
        workspace: config.storage.workspace_bytes.bytes() as u64,
        per_minute: config.storage.principal_bytes_per_minute.bytes() as u64,
        ceilings: config.quotas.ceilings(),
    }
}

fn addresses_of(bound: &[std::io::Result<Bound>]) -> Vec<Option<SocketAddr>> {
    bound.iter().map(|bound| bound.as_ref().ok().map(|bound| bound.address)).collect()
}

/// The ports of the installation: those that are open, and those that are still to be opened.
fn ports(config: &Config, addresses: &[Option<SocketAddr>]) -> Vec<u16> {
    let listeners = config.server.listen.as_slice().iter();
    let of = |(open, asked): (&Option<SocketAddr>, &config::Listener)| {
        open.map_or(asked.address.port(), |open| open.port())
    };
    addresses.iter().zip(listeners).map(of).filter(|port| *port > 0).collect()
}

fn serve_addresses(
    config: &Config,
    bound: Vec<std::io::Result<Bound>>,
    shards: &Shards,
    hub: &Arc<Hub>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let listeners = config.server.listen.as_slice();
    let opened = bound.into_iter().zip(listeners).enumerate();
    opened
        .map(|(number, (bound, listener))| {
            let anonymous = listener.lets_guests_in(config.auth.anonymous);
            let tls = listener.tls.as_ref().and_then(|files| hub.tls.of(files));
            let door = Door {
                number,
                anonymous,
                tls,
                watch_only: listener.bare_ws == BareWs::Metrics,
                crowd: Arc::clone(&hub.crowd),
                watch: Arc::clone(&hub.watch),
                trusted: config.server.trusted_proxies.clone(),
                proxy_protocol: listener.proxy_protocol,
            };
            match bound {
                Ok(bound) => bound.serve(shards.clone(), door),
                Err(error) => {
                    let every = Duration::from_millis(config.figures.interval.ms());
                    let late = Late { address: listener.address, every, hub: Arc::clone(hub) };
                    tokio::spawn(late.open(error, shards.clone(), door))
                }
            }
        })
        .collect()
}

/// An address that could not be opened at the start.
struct Late {
    address: SocketAddr,
    /// How often it is tried again.
    every: Duration,
    hub: Arc<Hub>,
}

impl Late {
    /// Says so, and tries until it can be opened; then serves it.
    async fn open(self, error: std::io::Error, shards: Shards, door: Door) {
        let name = format!("listener {}", self.address);
        let details = serde_json::json!({"address": self.address.to_string(), "cause": error.to_string()});
        let noted = components::fault(
            &name,
            "LISTENER_NOT_OPENED",
            format!("{} cannot be opened", self.address),
            &details,
        );
        let is = components::health(&name, Health::Unhealthy, error.to_string(), &["connections"]);
        components::tell(&self.hub, vec![noted, is]).await;
        let bound = loop {
            tokio::time::sleep(self.every).await;
            if let Ok(bound) = bind(self.address) {
                break bound;
            }
        };
        tracing::info!(address = %self.address, "this address is open now");
        let _serving = EndsWithIt(bound.serve(shards, door));
        let is = components::health(&name, Health::Healthy, "it is open now".into(), &[]);
        components::tell(&self.hub, vec![is]).await;
        std::future::pending().await
    }
}

/// A task that ends with whoever holds this.
struct EndsWithIt(tokio::task::JoinHandle<()>);

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The name of this server process: from the settings, or drawn once and kept beside the log.
fn node_id(config: &Config, dir: &std::path::Path) -> Result<NodeId, ServeError> {
    if let Some(name) = config.server.node.get() {
        return Ok(NodeId::new(name)?);
    }
    let path = dir.join("node");
    if let Ok(text) = std::fs::read_to_string(&path) {
        return Ok(NodeId::new(text.trim())?);
    }
    let drawn = format!("node-{:08x}", clock::random_u64() >> 32);
    std::fs::write(&path, &drawn)?;
    Ok(NodeId::new(&drawn)?)
}

/// Serves until the process is told to end (interrupt or terminate), then ends in order. `ready` is called once every
/// address is served.
/// `again` reads the settings once more, which SIGHUP asks for.
pub async fn run(
    config: &Config,
    ready: impl FnOnce(&Server),
    again: &(dyn Fn() -> Result<Config, Problems> + Send + Sync),
) -> Result<(), ServeError> {
    use tokio::signal::unix::{SignalKind, signal};
    std::panic::set_hook(Box::new(|fault| {
        tracing::error!(%fault, "a fault of the server's own");
        // A fault in a connection's task ends that connection. Without its engine or its log the process would serve half
        // of what it promises: it ends, and whoever watches it starts it again from the log.
        if std::thread::current().name().is_some_and(|name| VITAL.contains(&name)) {
            std::process::abort();
        }
    }));
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // A file that gets too long is a disk that is full, and no reason to end.
    let _too_long = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let mut hangup = signal(SignalKind::hangup())?;
    let server = Server::start(config).await?;
    ready(&server);
    let by = loop {
        tokio::select! {
            _ = interrupt.recv() => break "SIGINT",
            _ = terminate.recv() => break "SIGTERM",
            _ = hangup.recv() => match again() {
                Ok(config) => server.reload(&config),
                Err(problems) => {
                    for problem in problems.0 {
                        tracing::error!(problem, "the settings stay as they were");
                    }
                }
            },
        }
    };
    tracing::info!(by, "the server stops");
    server.stop().await;
    Ok(())
}
