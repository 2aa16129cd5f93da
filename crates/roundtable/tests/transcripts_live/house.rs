//! A server in a temporary folder with the clients of one transcript.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use roundtable::auth::first_start::FirstCredentials;
use roundtable::auth::passwords;
use roundtable::clock;
use roundtable::config::{Config, Sources};
use roundtable::runner::Handle;
use roundtable::server::Server;
use roundtable_core::command::Command;
use roundtable_core::ids::{KeyId, Principal};
use roundtable_core::state::State;
use roundtable_core::users::{Incarnation, TokenRevoked};
use roundtable_dialects::rest::TokenOrder;
use roundtable_dialects::session::{Ask, Dialect, Token};
use roundtable_dialects::transcript::{Door, Got, Names, SetUp, Theatre};
use tokio::runtime::Runtime;

use crate::client::{Client, PATIENCE};

/// What a bare `/ws` means on each listener; the second three want a credential.
const LISTENERS: [&str; 6] = [
    "127.0.0.1:0=hive",
    "127.0.0.1:0=megabot",
    "127.0.0.1:0=auto",
    "127.0.0.1:0=hive/no-guests",
    "127.0.0.1:0=megabot/no-guests",
    "127.0.0.1:0=auto/no-guests",
];

/// Nothing is reported and no alert is raised while a transcript is played, unless it says so.
const QUIET: [&str; 11] = [
    "security.failed_logins=off",
    "hive.status_interval=7d",
    "hive.lists_interval=7d",
    "openagi.metric_interval=7d",
    "figures.interval=7d",
    "server.shards=2",
    "server.drain_timeout=200ms",
    "alerts.cpu_critical=100",
    "alerts.memory_critical=100",
    "alerts.disk_critical=100",
    "logging.level=error",
];

/// The server and its clients.
pub struct House {
    runtime: Runtime,
    server: Server,
    home: Handle,
    pace: i64,
    /// The log refuses records.
    full: bool,
    clients: BTreeMap<String, Client>,
    folder: tempfile::TempDir,
}

impl House {
    /// Starts a server of its own; waits are so many times shorter than they say.
    pub fn open(pace: i64, settings: &[String], names: &mut Names) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources {
            listen: LISTENERS.map(String::from).into(),
            set: QUIET.into_iter().map(String::from).chain(settings.iter().cloned()).collect(),
            data: Some(folder.path().to_owned()),
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(Server::start(&config)).unwrap();
        let home = server.hub.workspaces.get(server.hub.workspaces.default_id()).unwrap();
        let first = FirstCredentials::read(folder.path()).unwrap().unwrap();
        names.set("domain_key", first.domain_key);
        names.set("admin_password", first.admin.password);
        names.set("node", server.hub.figures.load().node.clone());
        Self { runtime, server, home, pace, full: false, clients: BTreeMap::new(), folder }
    }

    /// Stops the server.
    pub fn close(self) {
        let Self { runtime, server, home, clients, folder, .. } = self;
        drop(home);
        drop(clients);
        runtime.block_on(server.stop());
        drop(folder);
    }

    fn ask(&self, actor: &Principal, command: Command) -> Result<(), String> {
        let ask = Ask { actor: Some(actor.clone()), ..Ask::new(Token(0), command) };
        let done = self.runtime.block_on(self.home.ask(&Principal::System, ask));
        done.map(drop).map_err(|error| error.to_string())
    }

    /// Everything that was asked before has been decided.
    fn settled(&self) -> Result<(), String> {
        match self.ask(&Principal::System, Command::Look) {
            // Refused with the batch that it came in, so that batch is over.
            Err(_) if self.full => Ok(()),
            looked => looked,
        }
    }

    fn address(&self, door: &Door) -> Result<SocketAddr, String> {
        let number = match door.dialect {
            Dialect::Hive => 0,
            Dialect::MegaBot => 1,
            Dialect::Mxf | Dialect::Aiwm | Dialect::OpenAgi => 2,
        };
        let number = if door.strict { number + 3 } else { number };
        self.server.addresses.get(number).copied().flatten().ok_or_else(|| "no such listener".into())
    }

    /// Makes the log's file refuse every record, as a full disk does, or take them again.
    fn refuse_records(&mut self, refuse: bool) -> rusqlite::Result<()> {
        self.full = refuse;
        let file = rusqlite::Connection::open(self.folder.path().join(roundtable::log::sqlite::FILE))?;
        file.execute_batch(if refuse {
            "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'full'); END"
        } else {
            "DROP TRIGGER full"
        })
    }

    fn client(&mut self, name: &str) -> Result<&mut Client, String> {
        self.clients.get_mut(name).ok_or_else(|| format!("{name} has not come"))
    }

    fn connections(&self) -> u64 {
        self.server.hub.connections.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn revoke(&self, name: &str, names: &Names) -> Result<(), String> {
        let text = names.get(name).ok_or_else(|| format!("${name} stands for nothing yet"))?;
        let command = match self.server.hub.identity.read_any(text) {
            Some(found) => Command::RevokeToken(TokenRevoked {
                jti: found.jti,
                expires_at: found.expires_at,
                bearer: None,
            }),
            None => {
                let id = text.split(':').next().unwrap_or(text);
                Command::RevokeKey(KeyId::new(id).map_err(|error| error.to_string())?)
            }
        };
        self.ask(&Principal::System, command)
    }
}

impl Theatre for House {
    fn set_up(&mut self, what: &SetUp, names: &mut Names) -> Result<(), String> {
        match what {
            SetUp::Ask(wishes) => {
                for wish in SetUp::hashed(wishes, |secret| passwords::hash(secret).unwrap()) {
                    self.ask(&wish.actor, wish.command)?;
                }
            }
            SetUp::Token { name, family, subject, ttl_s, claims } => {
                let workspace = self.home.workspace().clone();
                let (family, subject, claims) = (*family, subject.clone(), claims.clone());
                let incarnation = operators(&self.home.view().state, &subject);
                let order = TokenOrder { family, subject, incarnation, workspace, ttl_s: *ttl_s, claims };
                let made = self.server.hub.identity.issue(&order).map_err(|error| error.to_string())?;
                names.set(name, made.token);
            }
            SetUp::Key { name, opens, ttl_ms } => {
                let end = ttl_ms.map(|ms| clock::now().plus(ms));
                let (added, secret) = SetUp::key_added(name, opens, end)?;
                names.set(name, format!("{}:{secret}", added.key));
                names.set(&format!("{name}_id"), added.key.as_str());
                names.set(&format!("{name}_secret"), secret);
                self.ask(&Principal::System, Command::AddKey(added))?;
            }
            SetUp::Revoke(name) => self.revoke(name, names)?,
            SetUp::Full(full) => self.refuse_records(*full).map_err(|error| error.to_string())?,
        }
        Ok(())
    }

    fn wait(&mut self, ms: i64) -> Result<(), String> {
        std::thread::sleep(std::time::Duration::from_millis(u64::try_from(ms / self.pace).unwrap_or(0) + 20));
        Ok(())
    }

    fn open(&mut self, client: &str, door: &Door) -> Result<(), String> {
        if self.clients.get(client).is_some_and(|known| !known.is_over()) {
            return Err(format!("{client} is here already"));
        }
        let mut came = Client::come(door, self.address(door)?)?;
        came.settle();
        self.clients.insert(client.to_owned(), came);
        self.settled()
    }

    fn send(&mut self, client: &str, text: &str) -> Result<(), String> {
        let sender = self.client(client)?;
        sender.send(text)?;
        sender.settle();
        self.settled()
    }

    fn leave(&mut self, client: &str) -> Result<(), String> {
        let before = self.connections();
        self.client(client)?.leave();
        let until = clock::monotonic_ms() + PATIENCE;
        while self.connections() >= before && before > 0 && clock::monotonic_ms() < until {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.settled()
    }

    fn next(&mut self, client: &str) -> Option<Got> {
        self.clients.get_mut(client)?.next(PATIENCE)
    }

    fn left_over(&mut self) -> Option<(String, Got)> {
        let found = |(name, client): (&String, &mut Client)| client.next(0).map(|got| (name.clone(), got));
        self.clients.iter_mut().find_map(found)
    }
}

/// The incarnation of a token that the operator hands out: one for a node counts as approval.
fn operators(state: &State, subject: &Principal) -> Incarnation {
    let incarnation = state.incarnation(subject).unwrap_or_default();
    match subject {
        Principal::Node(_) => Incarnation { born: state.head, ..incarnation },
        _ => incarnation,
    }
}
