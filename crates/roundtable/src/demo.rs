//! A first conversation: a client of each dialect joins a server over real sockets, three talk, and it is checked who saw what.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use crate::auth::first_start::FirstCredentials;
use crate::line::Attempt;

pub mod by_hand;
mod check;
mod clients;

use clients::Told;

/// How long the whole conversation may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The room in which all meet.
pub const ROOM: &str = "lobby";

/// What somebody says.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Said {
    pub who: &'static str,
    pub role: &'static str,
    pub text: &'static str,
}

/// A question, and two answers that are given at the same moment, so that only the log can order them.
pub const LINES: [Said; 3] = [
    Said { who: "ada", role: "user", text: "Is anybody at the table? ☕" },
    Said { who: "scout", role: "user", text: "I am, over Socket.IO." },
    Said { who: "scribe", role: "assistant", text: "So am I, and I write it down." },
];

/// What one client saw in one event: who said it or whom it is about, in which role, and the text.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    pub who: &'static str,
    pub dialect: &'static str,
    pub event: String,
    pub from: String,
    pub role: String,
    pub text: String,
}

/// Where the server is, and what its first start drew.
pub struct Stage {
    /// MXF, AIWM and Hive; port 3001 by default.
    pub agents: SocketAddr,
    /// MegaBot; port 3000 by default.
    pub people: SocketAddr,
    /// Open-A.G.I; port 8080 by default.
    pub nodes: SocketAddr,
    pub credentials: FirstCredentials,
}

/// What the two agents come in with.
#[derive(Clone, Default)]
pub struct Keys {
    pub key_id: String,
    pub key_secret: String,
    pub scribe_secret: String,
}

/// What came of it. No problems: everybody saw what they should.
#[derive(Default, Serialize)]
pub struct Played {
    pub said: Vec<Said>,
    pub seen: Vec<Seen>,
    pub problems: Vec<String>,
    #[serde(skip)]
    pub keys: Keys,
}

/// Lets everybody join, talk and go. Ends when nothing is missing any more, when a client fails, or after 10 s.
pub async fn play(stage: &Stage) -> Played {
    let mut played = Played::default();
    match tokio::time::timeout(PATIENCE, scene(stage, &mut played)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => played.problems.push(error.to_string()),
        Err(_) => played.problems = check::problems(&played.seen),
    }
    played
}

async fn scene(stage: &Stage, played: &mut Played) -> Attempt<()> {
    let (tell, mut told) = unbounded_channel();
    let mut at_work = JoinSet::new();
    // Who only watches comes first, so that it sees the others come.
    for watcher in [clients::dashboard(stage).await?, clients::watcher(stage).await?] {
        at_work.spawn(watcher.attend(tell.clone()));
    }
    let _beacon = clients::node(stage, "beacon").await?;
    let keys = clients::keys(stage).await?;
    for agent in [clients::scout(stage, &keys).await?, clients::scribe(stage, &keys).await?] {
        at_work.spawn(agent.attend(tell.clone()));
    }
    played.keys = keys;
    let mut ada = clients::ada(stage).await?;
    ada.speak(&tell).await?;
    at_work.spawn(ada.attend(tell));
    while !check::problems(&played.seen).is_empty() {
        match told.recv().await.ok_or("all clients are gone")? {
            Told::Said(said) => played.said.push(said),
            Told::Seen(seen) => played.seen.push(seen),
            Told::Lost(why) => return Err(why.into()),
        }
    }
    Ok(())
}
