//! The log's form of records and snapshots: foreign bytes are refused, and what was written reads back the same.

use roundtable::log::codec::{Columns, Numbers, Row, beginning, record, state, state_json};
use roundtable_core::event::Event;
use roundtable_core::ids::WorkspaceId;
use roundtable_core::state::State;

/// Lines: a record each, as its columns between tabs (kind or its number, actor, room, client, body), or a snapshot.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let start = beginning(&WorkspaceId::new("fuzzed").unwrap());
    let (mut hash, mut folded, mut offset) = (start, State::default(), 0);
    for line in text.lines().take(64) {
        if line.starts_with('{') {
            snapshot(line);
            continue;
        }
        let mut parts = line.splitn(5, '\t');
        let mut part = || parts.next().unwrap_or("");
        let (kind, actor, room, client, body) = (part(), part(), part(), part(), part());
        let kind = kind.parse::<usize>().map_or(kind, |number| Event::KINDS[number % Event::KINDS.len()]);
        let given = |text: &'static str, part| if part == text { None } else { Some(part) };
        let columns = Columns {
            kind,
            actor,
            room: given("", room),
            target: None,
            client: given("", client),
            command: None,
            body,
        };
        let at = i64::try_from(body.len()).unwrap();
        let numbers = Numbers { offset: offset + 1, at, t: -at, room_seq: None };
        let Ok(read) = record(numbers, &columns) else { continue };
        let row = Row::of(&read).unwrap();
        assert_eq!(row.record().as_ref(), Ok(&read), "{columns:?}");
        assert_eq!(Row::of(&row.record().unwrap()).unwrap(), row);
        assert_eq!(Event::read(read.event.kind(), row.columns().body).as_ref(), Ok(&read.event));
        let next = row.chain(&hash);
        assert_ne!(next, hash);
        hash = next;
        offset += 1;
        folded.apply(&read);
    }
    snapshot(&state_json(&folded).unwrap());
}

fn snapshot(json: &str) {
    if let Ok(read) = state(json) {
        let again = state(&state_json(&read).unwrap());
        assert!(again.is_ok_and(|again| again == read), "a snapshot gives another state: {json}");
    }
}
