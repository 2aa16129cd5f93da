//! How a record stands in a log: columns that a person can read, and the hash that ties it to the one before.

use roundtable_core::delivery;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{ClientId, Principal, RoomId, WorkspaceId};
use roundtable_core::repeats::ClientWrite;
use roundtable_core::state::State;
use roundtable_core::time::{Offset, Time};
use sha2::{Digest, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// A record in columns. The text of all columns stands in one allocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Position in the workspace's log.
    pub offset: u64,
    /// The wall clock's stamp: milliseconds since 1970.
    pub at: i64,
    /// Log time, in milliseconds.
    pub t: i64,
    /// Position within its room.
    pub room_seq: Option<u64>,
    /// The event's stable name.
    pub kind: &'static str,
    text: String,
    /// Ends of the columns `actor`, `room`, `target`, `client`, `command` in `text`; the body is the rest.
    ends: [Option<u32>; 5],
}

/// The numbers of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbers {
    /// Position in the workspace's log.
    pub offset: u64,
    /// The wall clock's stamp.
    pub at: i64,
    /// Log time.
    pub t: i64,
    /// Position within its room.
    pub room_seq: Option<u64>,
}

/// The text columns of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Columns<'a> {
    /// The event's stable name.
    pub kind: &'a str,
    /// Who caused it.
    pub actor: &'a str,
    /// The room it belongs to.
    pub room: Option<&'a str>,
    /// The principal it goes to.
    pub target: Option<&'a str>,
    /// The actor's own name for the write.
    pub client: Option<&'a str>,
    /// The hash of the command that has that name.
    pub command: Option<&'a str>,
    /// The event's body: JSON.
    pub body: &'a str,
}

impl Columns<'_> {
    /// How much text it is beside its kind, in bytes.
    pub fn bytes(&self) -> usize {
        let Self { kind: _, actor, room, target, client, command, body } = *self;
        let optional = [room, target, client, command].into_iter().flatten().map(str::len).sum::<usize>();
        actor.len() + optional + body.len()
    }
}

impl Row {
    /// Writes a record down. Fails with `Internal` if its body has no JSON form.
    pub fn of(record: &Record) -> Result<Self, Error> {
        use std::fmt::Write;
        let body = record.event.body()?;
        let mut text = String::with_capacity(body.len() + 96);
        let end = |text: &String| u32::try_from(text.len()).ok();
        let _ = write!(text, "{}", record.actor);
        let actor = end(&text);
        let mut column = |part: Option<&dyn std::fmt::Display>| {
            part.and_then(|part| {
                let _ = write!(text, "{part}");
                end(&text)
            })
        };
        let room = column(record.room.as_ref().map(|r| r as _));
        let target = delivery::target_of(&record.event);
        let target = column(target.as_ref().map(|t| t as _));
        let client = record.client.as_ref().map(|write| write.id.as_str());
        let client = column(client.as_ref().map(|c| c as _));
        let command = record.client.as_ref().and_then(|write| write.command);
        let command = column(command.as_ref().map(|hash| hash as _));
        text.push_str(&body);
        Ok(Self {
            offset: record.offset.0,
            at: record.at.0,
            t: record.t.0,
            room_seq: record.room_seq,
            kind: record.event.kind(),
            text,
            ends: [actor, room, target, client, command],
        })
    }

    /// The text columns.
    pub fn columns(&self) -> Columns<'_> {
        let mut from = 0;
        let [actor, room, target, client, command] = self.ends.map(|end| {
            let end = end? as usize;
            let part = self.text.get(from..end);
            from = end;
            part
        });
        let body = self.text.get(from..).unwrap_or_default();
        Columns { kind: self.kind, actor: actor.unwrap_or_default(), room, target, client, command, body }
    }

    fn numbers(&self) -> Numbers {
        Numbers { offset: self.offset, at: self.at, t: self.t, room_seq: self.room_seq }
    }

    /// How much text it is, in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The record again.
    pub fn record(&self) -> Result<Record, Error> {
        record(self.numbers(), &self.columns())
    }

    /// The hash of the record after the one with the hash `previous`.
    pub fn chain(&self, previous: &Hash) -> Hash {
        chain(previous, Form::WithLogTime, self.numbers(), &self.columns())
    }
}

/// A state as JSON. Fails with `Internal`; no state of ours can.
pub fn state_json(state: &State) -> Result<String, Error> {
    serde_json::to_string(state)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("the state has no JSON form: {e}")))
}

/// The state again. Fails with `Internal` when another version wrote it.
pub fn state(json: &str) -> Result<State, Error> {
    serde_json::from_str(json)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("the snapshot cannot be read: {e}")))
}

/// Reads a record back. Fails with `Internal` on what this program did not write.
pub fn record(numbers: Numbers, columns: &Columns<'_>) -> Result<Record, Error> {
    let Numbers { offset, at, t, room_seq } = numbers;
    let foreign = |e: Error| {
        Error::new(ErrorKind::Internal, format!("record {offset} of the log cannot be read: {}", e.message))
    };
    Ok(Record {
        offset: Offset(offset),
        room_seq,
        at: Time(at),
        t: Time(t),
        actor: Principal::parse(columns.actor).map_err(foreign)?,
        room: columns.room.map(RoomId::new).transpose().map_err(foreign)?,
        client: columns.client.map(|id| write(id, columns.command)).transpose().map_err(foreign)?,
        event: Event::read(columns.kind, columns.body).map_err(foreign)?,
    })
}

fn write(id: &str, command: Option<&str>) -> Result<ClientWrite, Error> {
    Ok(ClientWrite { id: ClientId::new(id)?, command: command.map(str::parse).transpose()? })
}

/// What of a principal and its name for a write stands in tables: the first 64 bits of the SHA-256 of both.
pub fn mark(actor: &str, client: &str) -> u64 {
    let hash = Sha256::new().chain_update(actor).chain_update([0]).chain_update(client).finalize();
    let (words, _) = hash.as_chunks::<8>();
    words.first().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The hash before the first record: of the workspace's name, so that no log passes for another's.
pub fn beginning(workspace: &WorkspaceId) -> Hash {
    Sha256::new().chain_update("roundtable log 1\0").chain_update(workspace.as_str()).finalize().into()
}

/// Which numbers are part of a record's hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As 0.1.0 wrote it: all but log time, which its records got later.
    WithoutLogTime,
    /// All of them.
    WithLogTime,
}

/// The hash of a record: SHA-256 of the hash before, then `offset`, `at`, `t` (see [`Form`]), `room_seq + 1` or 0 as 64 bits
/// each, then `kind`, `actor`, `room`, `target`, `client` and `body`, each with its length (of `NULL`: 2³²−1) as 32 bits in
/// front, then `command` in the same way if there is one; all little-endian.
pub fn chain(previous: &Hash, form: Form, numbers: Numbers, columns: &Columns<'_>) -> Hash {
    let Numbers { offset, at, t, room_seq } = numbers;
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(offset.to_le_bytes());
    hash.update(at.to_le_bytes());
    if form == Form::WithLogTime {
        hash.update(t.to_le_bytes());
    }
    hash.update(room_seq.map_or(0, |seq| seq.wrapping_add(1)).to_le_bytes());
    let Columns { kind, actor, room, target, client, command, body } = *columns;
    let columns = [Some(kind), Some(actor), room, target, client, Some(body)];
    for column in columns.into_iter().chain(command.map(Some)) {
        let length = column.map_or(u32::MAX, |text| u32::try_from(text.len()).unwrap_or(u32::MAX));
        hash.update(length.to_le_bytes());
        hash.update(column.unwrap_or_default());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use roundtable_core::event::{Event, Record};
    use roundtable_core::ids::{AgentId, ClientId, MessageId, Principal, RoomId, WorkspaceId};
    use roundtable_core::messages::{Content, DirectMessage};
    use roundtable_core::repeats::ClientWrite;
    use roundtable_core::time::{Offset, Time};

    use super::{Row, beginning};

    const HASH: &str = "1:00112233445566778899aabbccddeeff";

    fn direct(room: Option<&str>, client: Option<&str>) -> Record {
        let from = Principal::Agent(AgentId::new("a").unwrap());
        Record {
            offset: Offset(7),
            room_seq: room.map(|_| 3),
            at: Time(-5),
            t: Time(3),
            actor: from.clone(),
            room: room.map(|r| RoomId::new(r).unwrap()),
            client: client.map(|c| ClientWrite { id: ClientId::new(c).unwrap(), command: None }),
            event: Event::MessageDirect(DirectMessage {
                id: MessageId::new("m").unwrap(),
                from,
                from_name: "Ä".into(),
                to: Principal::Agent(AgentId::new("b").unwrap()),
                content: Content::Text("\u{1F600}\n\"".into()),
                metadata: None,
            }),
        }
    }

    #[test]
    fn a_record_comes_back_from_its_columns_whichever_are_missing() {
        for (room, client) in [(None, None), (Some("r"), None), (None, Some("ü c")), (Some("r"), Some("c"))]
        {
            let mut record = direct(room, client);
            if let (Some(write), true) = (&mut record.client, room.is_some()) {
                write.command = Some(HASH.parse().unwrap());
            }
            let row = Row::of(&record).unwrap();
            assert_eq!(row.record().unwrap(), record);
            assert_eq!(row.columns().command, client.and(room).map(|_| HASH));
            let columns = row.columns();
            assert_eq!((columns.room, columns.client), (room, client));
            assert_eq!((columns.actor, columns.target), ("agent:a", Some("agent:b")));
        }
    }

    #[test]
    fn numbers_come_back_to_the_last_bit() {
        let mut value = 0.1_f64;
        for _ in 0..2_000 {
            value = f64::from_bits(value.to_bits().wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1));
            if value.is_finite() {
                let body = format!(
                    r#"{{"alert":"a","source":"s","level":"info","title":"","message":"","value":{value:e}}}"#
                );
                let record =
                    Record { event: Event::read("alert.raised", &body).unwrap(), ..direct(None, None) };
                let Event::AlertRaised(raised) = &record.event else { panic!("an alert") };
                assert_eq!(raised.value, Some(value));
                assert_eq!(Row::of(&record).unwrap().record().unwrap(), record);
            }
        }
    }

    #[test]
    fn every_column_is_part_of_the_hash() {
        let start = beginning(&WorkspaceId::new("w").unwrap());
        let plain = direct(None, None);
        let mut others = vec![plain.clone(), direct(Some("r"), None), direct(None, Some("r"))];
        others.push(Record { at: Time(1), ..plain.clone() });
        others.push(Record { t: Time(4), ..plain.clone() });
        others.push(Record { offset: Offset(8), ..plain.clone() });
        others.push(Record { actor: Principal::System, ..plain });
        for command in [None, Some(HASH), Some("1:10112233445566778899aabbccddeeff")] {
            let command = command.map(|hash| hash.parse().unwrap());
            let client = Some(ClientWrite { id: ClientId::new("c").unwrap(), command });
            others.push(Record { client, ..direct(None, None) });
        }
        let hashes: std::collections::BTreeSet<_> =
            others.iter().map(|record| Row::of(record).unwrap().chain(&start)).collect();
        assert_eq!(hashes.len(), others.len());
        assert_ne!(start, beginning(&WorkspaceId::new("v").unwrap()));
    }
}
