//! Commands about rooms: making them, reading, watching, speaking.

use clap::{Args, Subcommand};
use roundtable_core::rooms::Durability;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::records::Seen;
use crate::admin::wire::{AddRoom, ListedRoom, Rooms, SendMessage, SentMessage};
use crate::cli::client::{Failure, encoded};
use crate::cli::{Target, Terminal, client, list, show};

#[derive(Subcommand, Debug)]
pub enum RoomCommand {
    /// Make a room.
    Add {
        /// Its id, the same in every dialect.
        id: String,
        /// Its shown name; without one its id.
        #[arg(long)]
        name: Option<String>,
        /// What an acknowledgement means: synced to disk (durable), synced within a second (relaxed), never written
        /// (ephemeral).
        #[arg(long, default_value = "durable", value_parser = durability)]
        durability: Durability,
    },
    /// All rooms.
    List,
    /// What was said in a room, oldest first.
    History {
        /// Its id.
        id: String,
        /// At most so many messages, 1 to 1000, the newest.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Only what is before this offset.
        #[arg(long, value_name = "OFFSET")]
        before: Option<u64>,
    },
}

fn durability(text: &str) -> Result<Durability, String> {
    serde_json::from_value(Value::from(text)).map_err(|_| "must be durable, relaxed or ephemeral".into())
}

#[derive(Serialize, Deserialize)]
struct History {
    room: String,
    messages: Vec<Seen>,
}

impl RoomCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = client(target)?;
        match self {
            Self::Add { id, name, durability } => {
                let words = format!("room {id}");
                let done: Value = client.ask("POST", "/rooms", &AddRoom { room: id, name, durability })?;
                show(terminal, target, &done, &words)
            }
            Self::List => {
                let all: Rooms = client.ask("GET", "/rooms", &Value::Null)?;
                let line = |room: &ListedRoom| {
                    format!(
                        "{}  {}  {} members  {} messages",
                        room.room, room.name, room.members, room.messages
                    )
                };
                list(terminal, target, &all, all.rooms.iter().map(line))
            }
            Self::History { id, limit, before } => {
                let before = before.map(|offset| format!("&before={offset}")).unwrap_or_default();
                let path = format!("/rooms/{}/messages?limit={limit}{before}", encoded(&id));
                let history: History = client.ask("GET", &path, &Value::Null)?;
                if target.json {
                    return show(terminal, target, &history, "");
                }
                history.messages.iter().try_for_each(|message| terminal.say(&message.line()))
            }
        }
    }
}

#[derive(Args, Debug)]
pub struct TailArgs {
    /// Only this room.
    room: Option<String>,
    /// Begin after this offset; 0 shows the whole log. Without it: what comes from now on.
    #[arg(long, value_name = "OFFSET")]
    after: Option<u64>,
}

pub(super) fn tail(args: &TailArgs, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let room = args.room.as_deref().map(|room| format!("room={}", encoded(room)));
    let after = args.after.map(|offset| format!("after={offset}"));
    let query: Vec<String> = room.into_iter().chain(after).collect();
    let client = client(target)?;
    client.follow(&format!("/tail?{}", query.join("&")), |seen: Seen| {
        let line = seen.line();
        show(terminal, target, &seen, &line)
    })
}

#[derive(Args, Debug)]
pub struct SendArgs {
    /// Where.
    room: String,
    /// What.
    text: String,
    /// Who speaks: user:NAME or agent:ID.
    #[arg(long, value_name = "WHO", default_value = "user:admin")]
    from: String,
}

pub(super) fn send(args: &SendArgs, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let body = SendMessage { content: args.text.clone(), from: Some(args.from.clone()) };
    let path = format!("/rooms/{}/messages", encoded(&args.room));
    let sent: SentMessage = client(target)?.ask("POST", &path, &body)?;
    show(terminal, target, &sent, &format!("message {}", sent.message_id))
}
