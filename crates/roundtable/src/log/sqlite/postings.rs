//! Finding records by topic: places are gathered in memory and written a chunk at a time, because an index that is kept
//! with every record costs more than the record (a page per room and commit).

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use roundtable_core::delivery::{Topic, kinds_of_feed};
use roundtable_core::feeds::Feed;
use roundtable_core::ids::WorkspaceId;
use roundtable_core::time::Offset;
use rusqlite::Connection;

use super::super::Sought;

use super::reader::Fault;
use super::schema;

/// A chunk is written when it has so many records; until then it is looked up in memory.
pub const CHUNK: usize = 2048;

/// The name of a topic in the table.
pub fn name(topic: &Topic) -> String {
    match topic {
        Topic::Room(room) => format!("room:{room}"),
        Topic::Principal(who) => who.to_string(),
        Topic::Feed(feed) => feed_name(*feed).to_owned(),
    }
}

const fn feed_name(feed: Feed) -> &'static str {
    match feed {
        Feed::Activity => "feed:activity",
        Feed::Network => "feed:network",
        Feed::Consensus => "feed:consensus",
        Feed::Security => "feed:security",
        Feed::Monitoring => "feed:monitoring",
    }
}

/// What is not yet in the tables, of all workspaces: the writer fills it, readers look things up.
pub type AllPending = Arc<RwLock<HashMap<WorkspaceId, Pending>>>;

/// The records of one workspace that are synced but not yet in the tables.
#[derive(Default)]
pub struct Pending {
    count: usize,
    first: u64,
    last: u64,
    earliest: i64,
    latest: i64,
    rooms: HashMap<Box<str>, Vec<u64>>,
    targets: HashMap<Box<str>, Vec<u64>>,
    feeds: [Vec<u64>; Feed::ALL.len()],
}

/// What of a record decides where it is looked for.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Its offset.
    pub offset: u64,
    /// Its time.
    pub at: i64,
    /// Its kind.
    pub kind: &'a str,
    /// Its room.
    pub room: Option<&'a str>,
    /// Its addressee.
    pub target: Option<&'a str>,
}

impl Pending {
    /// Those after `indexed`, read back from the table.
    pub fn load(connection: &Connection, number: i64, indexed: u64) -> rusqlite::Result<Self> {
        let mut pending = Self::default();
        let sql = "SELECT id, at, kind, room, target FROM records WHERE id > ?1 AND id <= ?2 ORDER BY id";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows =
            statement.query((schema::id(number, indexed), schema::id(number, schema::MAX_OFFSET)))?;
        while let Some(row) = rows.next()? {
            pending.add(Place {
                offset: schema::offset(row.get(0)?),
                at: row.get(1)?,
                kind: row.get_ref(2)?.as_str()?,
                room: row.get_ref(3)?.as_str_or_null()?,
                target: row.get_ref(4)?.as_str_or_null()?,
            });
        }
        Ok(pending)
    }

    /// Takes the next record in.
    pub fn add(&mut self, place: Place<'_>) {
        let Place { offset, at, kind, room, target } = place;
        if self.count == 0 {
            (self.first, self.earliest, self.latest) = (offset, at, at);
        }
        self.count += 1;
        self.last = offset;
        self.earliest = self.earliest.min(at);
        self.latest = self.latest.max(at);
        for (map, key) in [(&mut self.rooms, room), (&mut self.targets, target)] {
            let Some(key) = key else { continue };
            match map.get_mut(key) {
                Some(places) => places.push(offset),
                None => {
                    map.insert(key.into(), vec![offset]);
                }
            }
        }
        if room.is_none() {
            for (feed, places) in Feed::ALL.iter().zip(&mut self.feeds) {
                if kinds_of_feed(*feed).contains(&kind) {
                    places.push(offset);
                }
            }
        }
    }

    /// The offsets of a topic's records, oldest first.
    fn of(&self, topic: &Topic) -> &[u64] {
        let found = match topic {
            Topic::Room(room) => self.rooms.get(room.as_str()),
            Topic::Principal(who) => self.targets.get(who.to_string().as_str()),
            Topic::Feed(feed) => {
                Feed::ALL.iter().position(|known| known == feed).and_then(|at| self.feeds.get(at))
            }
        };
        found.map(Vec::as_slice).unwrap_or_default()
    }

    /// Gathers what is looked for.
    pub fn gather(&self, sought: &Sought<'_>, found: &mut Gathered) {
        for (topic, after) in sought.topics {
            let places = self.of(topic);
            let later = places.get(places.partition_point(|place| *place <= after.0)..).unwrap_or_default();
            later.iter().take_while(|place| **place <= sought.upto.0).for_each(|place| found.add(*place));
        }
    }

    /// Whether it is time to write the chunk.
    pub fn due(&self) -> bool {
        self.count >= CHUNK
    }

    /// Writes the chunk, within the caller's transaction.
    pub fn write(&self, connection: &Connection, number: i64) -> rusqlite::Result<()> {
        let last = schema::id(number, self.last);
        let sql = "INSERT INTO topics(topic, last, places) VALUES (?1, ?2, ?3)";
        let mut statement = connection.prepare_cached(sql)?;
        let mut blob = Vec::new();
        let mut write = |topic: &str, places: &[u64]| {
            blob.clear();
            let back = |offset: &u64| u32::try_from(self.last - offset).unwrap_or(u32::MAX);
            blob.extend(places.iter().flat_map(|offset| back(offset).to_le_bytes()));
            statement.execute((topic, last, &blob)).map(drop)
        };
        let feeds = Feed::ALL.iter().zip(&self.feeds).filter(|(_, places)| !places.is_empty());
        for (feed, places) in feeds {
            write(feed_name(*feed), places)?;
        }
        for (who, places) in &self.targets {
            write(who, places)?;
        }
        for (room, places) in &self.rooms {
            write(&format!("room:{room}"), places)?;
        }
        let sql = "INSERT INTO chunks(last, first, earliest, latest) VALUES (?1, ?2, ?3, ?4)";
        let chunk = (last, schema::id(number, self.first), self.earliest, self.latest);
        connection.prepare_cached(sql)?.execute(chunk)?;
        let sql = "UPDATE workspaces SET indexed = ?2 WHERE number = ?1";
        connection.prepare_cached(sql)?.execute((number, schema::offset(last)))?;
        Ok(())
    }
}

/// The nearest places among many, in no more memory than twice as many as are wanted.
pub struct Gathered {
    kept: Vec<u64>,
    limit: usize,
    newest: bool,
    /// The farthest of those kept, once there are enough.
    edge: Option<u64>,
}

impl Gathered {
    /// None yet.
    pub const fn of(sought: &Sought<'_>) -> Self {
        Self { kept: Vec::new(), limit: sought.limit, newest: sought.newest, edge: None }
    }

    fn add(&mut self, place: u64) {
        if self.wants(place) {
            self.kept.push(place);
            if self.kept.len() >= self.limit.saturating_mul(2).max(64) {
                self.trim();
            }
        }
    }

    fn wants(&self, place: u64) -> bool {
        self.edge.is_none_or(|edge| if self.newest { place > edge } else { place < edge })
    }

    fn trim(&mut self) {
        self.kept.sort_unstable();
        self.kept.dedup();
        if self.newest {
            self.kept.reverse();
        }
        self.kept.truncate(self.limit);
        self.edge = self.kept.last().copied().filter(|_| self.kept.len() == self.limit);
    }

    /// All of them, the nearest first.
    pub fn into_places(mut self) -> Vec<Offset> {
        self.trim();
        self.kept.into_iter().map(Offset).collect()
    }
}

/// Gathers what is looked for from the table.
pub fn gather(
    connection: &Connection,
    number: i64,
    sought: &Sought<'_>,
    found: &mut Gathered,
) -> Result<(), Fault> {
    let sql = if sought.newest {
        "SELECT last, places FROM topics WHERE topic = ?1 AND last > ?2 AND last <= ?3 ORDER BY last DESC"
    } else {
        "SELECT last, places FROM topics WHERE topic = ?1 AND last > ?2 AND last <= ?3 ORDER BY last"
    };
    let mut statement = connection.prepare_cached(sql)?;
    let high = schema::id(number, schema::MAX_OFFSET);
    for (topic, after) in sought.topics {
        let within = after.next().0..=sought.upto.0;
        let mut chunks = statement.query((name(topic), schema::id(number, after.0), high))?;
        while let Some(chunk) = chunks.next()? {
            let last: i64 = chunk.get(0)?;
            let all = ids(last, chunk.get_ref(1)?.as_blob()?).map(schema::offset);
            all.filter(|place| within.contains(place)).for_each(|place| found.add(place));
            // Chunks go on in the order in which places are wanted.
            let beyond = if sought.newest { last } else { last + 1 };
            if !found.wants(schema::offset(beyond))
                || (!sought.newest && schema::offset(last) >= sought.upto.0)
            {
                break;
            }
        }
    }
    Ok(())
}

/// The ids in one row of the table, oldest first.
pub fn ids(last: i64, places: &[u8]) -> impl DoubleEndedIterator<Item = i64> + '_ {
    let (words, _) = places.as_chunks::<4>();
    words.iter().map(move |word| last - i64::from(u32::from_le_bytes(*word)))
}
