//! Commands about rooms: making them, reading, watching, speaking.

use clap::{Args, Subcommand};
use roundtable_core::rooms::Durability;
use roundtable_core::time::Cursor;
use serde::Serialize;
use serde_json::Value;

use crate::admin::records::Seen;
use crate::admin::wire::{AddRoom, History, ListedRoom, Rooms, SendMessage, SentMessage, ShownRoom};
use crate::cli::client::{Client, Failure, encoded};
use crate::cli::{Target, Terminal, changed, client, list, show};

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
    /// Remove a room for good, with the keys that open it. Its members are in it no more and connections hear nothing of it
    /// any more; what was said stays in the log, and nobody gets the id again.
    Remove {
        /// Its id.
        id: String,
    },
    /// All rooms.
    List,
    /// A room's settings, members and counts.
    Show {
        /// Its id.
        id: String,
    },
    /// What was said in a room, oldest first.
    History {
        /// Its id.
        id: String,
        /// At most so many messages, 1 to 1000, the newest.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Only what is before this cursor, as `history` and `tail` print it.
        #[arg(long, value_name = "CURSOR")]
        before: Option<Cursor>,
    },
}

fn durability(text: &str) -> Result<Durability, String> {
    serde_json::from_value(Value::from(text)).map_err(|_| "must be durable, relaxed or ephemeral".into())
}

impl RoomCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = client(target)?;
        match self {
            Self::Add { id, name, durability } => {
                let words = format!("room {id}");
                let done: Value = client.ask("POST", "/rooms", &AddRoom { room: id, name, durability })?;
                changed(terminal, target, &done, &words)
            }
            Self::Remove { id } => {
                let done: Value = client.ask("DELETE", &format!("/rooms/{}", encoded(&id)), &Value::Null)?;
                let words = format!("room {id} is removed: nobody is in it any more, its keys open nothing");
                changed(terminal, target, &done, &words)
            }
            Self::List => {
                let all: Rooms = client.all("/rooms", "rooms")?;
                let line = |room: &ListedRoom| {
                    format!(
                        "{}  {}  {} members  {} messages",
                        room.room, room.name, room.members, room.messages
                    )
                };
                list(terminal, target, &all, all.rooms.iter().map(line))
            }
            Self::Show { id } => {
                let room: ShownRoom = client.all(&format!("/rooms/{}", encoded(&id)), "members")?;
                show(terminal, target, &room, &in_words(&room))
            }
            Self::History { id, limit, before } => {
                let history =
                    history(&client, &id, usize::from(limit), before.map(|cursor| cursor.to_string()))?;
                if target.json {
                    return show(terminal, target, &history, "");
                }
                history.messages.iter().try_for_each(|message| terminal.say(&message.line()))
            }
        }
    }
}

/// The newest messages of a room, page by page.
fn history(
    client: &Client,
    room: &str,
    limit: usize,
    mut before: Option<String>,
) -> Result<History, Failure> {
    let mut whole = History { room: room.to_owned(), messages: Vec::new(), next: None };
    loop {
        let left = limit - whole.messages.len();
        let from = before.map(|cursor| format!("&before={cursor}")).unwrap_or_default();
        let path = format!("/rooms/{}/messages?limit={left}{from}", encoded(room));
        let page: History = client.ask("GET", &path, &Value::Null)?;
        whole.messages.splice(0..0, page.messages);
        whole.next.clone_from(&page.next);
        if page.next.is_none() || whole.messages.len() >= limit {
            return Ok(whole);
        }
        before = page.next;
    }
}

/// A word of the interface for a value that has one.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn in_words(room: &ShownRoom) -> String {
    let ShownRoom { room: id, name, owner, messages, tokens, created_at, .. } = room;
    let (entry, durability, status) = (word(room.entry), word(room.durability), word(room.status));
    let most = room.max_members.map(|most| format!(" of at most {most}")).unwrap_or_default();
    let last = room.last.as_ref().map(|cursor| format!(", the last at {cursor}")).unwrap_or_default();
    let mut lines = vec![
        format!("{id}  {name}"),
        format!(
            "{status}, {durability}, open to {}, made by {owner} at {created_at}",
            match entry.as_str() {
                "open" => "everybody",
                "members" => "members",
                _ => "whom its owner lets in",
            }
        ),
        format!("{messages} messages{last}; {tokens} tokens; {} members{most}", room.members.len()),
    ];
    lines.extend(room.members.iter().map(|member| {
        let here = if member.online { "  online" } else { "" };
        let read =
            member.read.as_ref().map(|cursor| format!("  has read up to {cursor}")).unwrap_or_default();
        format!("  {}  since {}{read}{here}", member.member, member.joined_at)
    }));
    lines.join("\n")
}

#[derive(Args, Debug)]
pub struct TailArgs {
    /// Only this room; its last ten messages are shown first.
    room: Option<String>,
    /// Begin after this cursor, as `tail` prints it; 1:0 shows the whole log. Without it: what comes from now on.
    #[arg(long, value_name = "CURSOR")]
    since: Option<Cursor>,
}

/// Messages of a room that are shown before what comes.
const SHOWN_FIRST: usize = 10;

pub(super) fn tail(args: &TailArgs, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let client = client(target)?.patient();
    let mut since = args.since.map(|cursor| cursor.to_string());
    if let (Some(room), None) = (&args.room, &since) {
        let last = history(&client, room, SHOWN_FIRST, None)?;
        for seen in &last.messages {
            show(terminal, target, seen, &seen.line())?;
        }
        since = last.messages.last().map(|seen| seen.cursor.clone());
    }
    let what = args.room.as_ref().map(|room| format!(" in room {room}")).unwrap_or_default();
    terminal.note(&format!("waiting for what comes{what}; Ctrl-C ends it"));
    let room = args.room.as_deref().map(|room| format!("room={}", encoded(room)));
    let query: Vec<String> = room.into_iter().chain(since.map(|cursor| format!("since={cursor}"))).collect();
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
    /// Who speaks: user:NAME or agent:ID. Without it user:admin, whom not every workspace has.
    #[arg(long, value_name = "WHO")]
    from: Option<String>,
}

pub(super) fn send(args: &SendArgs, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let body = SendMessage { content: args.text.clone(), from: args.from.clone() };
    let path = format!("/rooms/{}/messages", encoded(&args.room));
    let sent: SentMessage = client(target)?.ask("POST", &path, &body)?;
    changed(terminal, target, &sent, &format!("message {}", sent.message_id))
}
