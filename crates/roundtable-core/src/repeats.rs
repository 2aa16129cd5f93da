//! Repeats: a client's own name for a write gives asking twice one effect, and stands for one command only.

use std::collections::HashMap;
use std::{fmt, str};

use serde::{Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::command::Command;
use crate::engine::{Context, Decision, Outcome, outcome_of};
use crate::error::{Error, ErrorKind};
use crate::event::Record;
use crate::ids::{ClientId, Principal};
use crate::json::Json;
use crate::limits;
use crate::messages::Content;
use crate::state::State;
use crate::time::{Offset, Time};

/// The present canonical form of commands. It goes up whenever the form of any command changes.
const VERSION: u8 = 1;

/// What a command asks for, in sixteen bytes: part of the SHA-256 of a canonical form that no dialect, time or chance shows
/// in. As text `version:32 hex digits`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CommandHash {
    version: u8,
    bytes: [u8; 16],
}

impl CommandHash {
    /// Of a command.
    pub fn of(command: &Command) -> Self {
        let mut bytes = [0; 16];
        for (byte, digest) in bytes.iter_mut().zip(Sha256::digest(canonical(command))) {
            *byte = digest;
        }
        Self { version: VERSION, bytes }
    }

    /// Whether both may stand for one command: hashes of different versions cannot be compared and count as equal.
    pub fn agrees(self, other: Self) -> bool {
        self.version != other.version || self.bytes == other.bytes
    }
}

impl fmt::Display for CommandHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.version)?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl str::FromStr for CommandHash {
    type Err = Error;

    /// Reads the text form. Fails with [`ErrorKind::InvalidField`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let (version, hex) = text.split_once(':').filter(|(_, hex)| hex.len() == 32)?;
            let mut bytes = [0; 16];
            for (n, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(hex.get(2 * n..2 * n + 2)?, 16).ok()?;
            }
            Some(Self { version: version.parse().ok()?, bytes })
        };
        read().ok_or_else(|| Error::invalid("command", "is no hash of a command"))
    }
}

/// The canonical form: JSON with sorted keys. What is said and done most often has types that are written in this form
/// at once.
fn canonical(command: &Command) -> String {
    let form = match command {
        Command::Post(_) | Command::Direct(_) | Command::Act(_) => return written(command),
        other => form(other),
    };
    match form {
        Ok(mut value) => {
            value.sort_all_objects();
            value.to_string()
        }
        // A client's own JSON that cannot be read as a whole (numbers beyond all bounds, depth) counts as it was written.
        Err(_) => written(command),
    }
}

fn written(command: &Command) -> String {
    serde_json::to_string(command).unwrap_or_default()
}

/// A client's own JSON with sorted keys; what cannot be read as a whole, as it is.
struct Sorted<'a>(&'a Json);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.read::<Value>() {
            Some(mut value) => {
                value.sort_all_objects();
                value.serialize(serializer)
            }
            None => serializer.serialize_str(self.0.as_str()),
        }
    }
}

#[expect(clippy::ref_option, reason = "serde hands the field over so")]
pub(crate) fn sorted<S: Serializer>(json: &Option<Json>, serializer: S) -> Result<S::Ok, S::Error> {
    json.as_ref().map(Sorted).serialize(serializer)
}

/// The same of what is said.
pub(crate) fn sorted_content<S: Serializer>(content: &Content, serializer: S) -> Result<S::Ok, S::Error> {
    match content {
        Content::Json(json) => serializer.serialize_newtype_variant("Content", 1, "json", &Sorted(json)),
        Content::Text(_) | Content::Base64(_) => content.serialize(serializer),
    }
}

/// A command without what is made anew each time it is asked: times, fresh ids, salted hashes, where its sender sits. Whoever
/// changes a line here changes the form.
fn form(command: &Command) -> serde_json::Result<Value> {
    let made_anew: &[&str] = match command {
        Command::AddUser(_) | Command::ChangeUser(_) => &["password"],
        Command::AddKey(_) => &["key", "hash", "expires_at"],
        Command::RevokeToken(_) => &["expires_at"],
        Command::NoteToken(_) => &["jti", "expires_at"],
        Command::RaiseAlert(_) => &["alert"],
        Command::Notice(_) => &["alert", "until"],
        Command::NoteFault(_) => &["fault"],
        Command::SetThreshold(_) => &["id"],
        Command::SetAgentSecret(agent, _) => return serde_json::to_value(("SetAgentSecret", agent)),
        Command::SetDomainKey(_) => return serde_json::to_value("SetDomainKey"),
        Command::PauseAgent(agent, _) => return serde_json::to_value(("PauseAgent", agent)),
        Command::Post(_)
        | Command::Direct(_)
        | Command::Act(_)
        | Command::Look
        | Command::Tick
        | Command::CreateWorkspace(_)
        | Command::StartServer(_)
        | Command::JoinNetwork(_)
        | Command::LeaveNetwork(_)
        | Command::SetNodeKey(_)
        | Command::RemoveUser(_)
        | Command::RemoveRoom(_)
        | Command::RevokeKey(_)
        | Command::RegisterAgent(_)
        | Command::HostAgent(_)
        | Command::UpdateAgent(..)
        | Command::SetAgentStatus(..)
        | Command::ResumeAgent(_)
        | Command::RemoveAgent(..)
        | Command::CreateRoom(_)
        | Command::JoinRoom(_)
        | Command::Invite(..)
        | Command::EnterOwnRoom(_)
        | Command::OpenPair(_)
        | Command::LeaveRoom(..)
        | Command::UpdateRoom(..)
        | Command::Summarise(..)
        | Command::MarkRead(..)
        | Command::DeleteMessage(_)
        | Command::MarkDelivered(_)
        | Command::Connect(_)
        | Command::ConnectForDirect
        | Command::MarkReached(_)
        | Command::Disconnect
        | Command::KeepSeat(_)
        | Command::Type(..)
        | Command::AcknowledgeAlert(_)
        | Command::ClearAlert(_)
        | Command::RemoveThreshold(_)
        | Command::SetHealth(_)
        | Command::Measure(_)
        | Command::LiftBlocks(_)
        | Command::Mark(..) => &[],
    };
    let mut value = serde_json::to_value(command)?;
    // A command with fields is an object with its name as the only key.
    let fields = value.as_object_mut().and_then(|named| named.values_mut().next());
    if let Some(Value::Object(fields)) = fields {
        fields.retain(|name, _| !made_anew.contains(&name.as_str()));
    }
    Ok(value)
}

/// What a client called a write, and what it stood for. Part of the write's record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientWrite {
    /// The client's own name for it.
    pub id: ClientId,
    /// The command; unknown of records that were written before hashes were.
    pub command: Option<CommandHash>,
}

impl ClientWrite {
    /// Of a command that is asked now.
    pub fn of(id: ClientId, command: &Command) -> Self {
        Self { id, command: Some(CommandHash::of(command)) }
    }
}

/// The first result of a client id.
#[derive(Clone, PartialEq, Debug)]
pub struct First {
    /// What the acknowledgement said.
    pub outcome: Outcome,
    /// What it was for, if that is known.
    pub command: Option<CommandHash>,
    /// When, in the log's time.
    pub at: Time,
    /// Where its record is, or would have been: whoever took the name later is somebody else.
    pub made: Offset,
}

impl First {
    /// What a record with a client id stands for.
    pub fn of(record: &Record) -> Option<Self> {
        let write = record.client.as_ref()?;
        let outcome = outcome_of(record.room.as_ref(), &record.event);
        Some(Self { outcome, command: write.command, at: record.t, made: record.offset })
    }
}

/// First results by who asked and what it called the write.
pub type Firsts = HashMap<(Principal, ClientId), First>;

/// A client's name for what it asks now, with what was looked up for it before.
#[derive(Clone, PartialEq, Debug)]
pub struct Claim {
    /// The name.
    pub write: ClientWrite,
    /// What the same name gave the first time, however long ago.
    pub first: Option<First>,
}

impl Claim {
    /// Of a command that somebody asks now; the first result may be among some.
    pub fn of((who, id): (&Principal, ClientId), command: &Command, firsts: &Firsts) -> Self {
        let first = firsts.get(&(who.clone(), id.clone())).cloned();
        Self { write: ClientWrite::of(id, command), first }
    }

    /// The first result, while it counts, if it was `who` that it was given.
    pub(crate) fn first(&self, state: &State, who: &Principal, now: Time) -> Option<&First> {
        let own = |made| state.incarnation(who).is_none_or(|present| present.born <= made);
        self.first.as_ref().filter(|first| now.since(first.at) <= limits::REPEAT_MS && own(first.made))
    }

    /// What a decision on a state gives the name as its first result; `None` if that was given before.
    pub fn given(&self, decision: &Decision, state: &State, now: Time) -> Option<First> {
        match decision.result() {
            Outcome::Repeated(_) => None,
            outcome => {
                let (command, made) = (self.write.command, state.head.next());
                Some(First { outcome, command, at: now, made })
            }
        }
    }
}

/// Remembers what a decision on a state gives its client id. Says by which name the first of its records is written.
pub fn note(firsts: &mut Firsts, state: &State, ctx: &Context, decision: &Decision) -> Option<ClientWrite> {
    let claim = ctx.client.as_ref()?;
    if let Some(first) = claim.given(decision, state, ctx.now) {
        firsts.insert((ctx.actor.clone(), claim.write.id.clone()), first);
    }
    Some(claim.write.clone())
}

/// What somebody is told who uses a name again: the first result, if the command and the right to ask for it are the same.
/// `anew` is what the rules say to the command now.
pub(crate) fn again(
    command: &Command,
    (claim, first): (&Claim, &First),
    anew: Result<Decision, Error>,
) -> Result<Decision, Error> {
    let same = match (claim.write.command, first.command) {
        (Some(now), Some(then)) => now.agrees(then),
        _ => true,
    };
    if !same {
        let message = "clientMessageId was used for another message";
        return Err(Error::new(ErrorKind::Conflict, message).field("clientMessageId"));
    }
    match anew {
        Err(error) if is_about_rights(error.kind) && !ends_own_right(command) => Err(error),
        _ => Ok(Decision::repeats(first.outcome.clone())),
    }
}

const fn is_about_rights(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Forbidden | ErrorKind::RoomNotFound | ErrorKind::Suspended)
}

/// Whether having done it may take away the right to do it, so that missing that right says nothing about the repeat.
const fn ends_own_right(command: &Command) -> bool {
    matches!(
        command,
        Command::LeaveRoom(..)
            | Command::LeaveNetwork(_)
            | Command::RemoveAgent(..)
            | Command::RemoveRoom(_)
            | Command::RemoveUser(_)
            | Command::SetAgentStatus(..)
            | Command::ChangeUser(_)
            | Command::RevokeKey(_)
            | Command::RevokeToken(_)
            | Command::Disconnect
    )
}
