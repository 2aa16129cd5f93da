//! Finding records by topic: places are gathered in memory and written a chunk at a time, because an index that is kept
//! with every record costs more than the record (a page per room and commit).

use std::collections::HashMap;

use roundtable_core::delivery::{Topic, kinds_of_feed};
use roundtable_core::feeds::Feed;
use rusqlite::Connection;

use super::schema;

/// A chunk is written when it has so many records; readers scan what is not written yet.
pub const CHUNK: usize = 2048;

const FEEDS: [Feed; 5] = [Feed::Activity, Feed::Network, Feed::Consensus, Feed::Security, Feed::Monitoring];

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
    feeds: [Vec<u64>; FEEDS.len()],
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
            for (feed, places) in FEEDS.iter().zip(&mut self.feeds) {
                if kinds_of_feed(*feed).contains(&kind) {
                    places.push(offset);
                }
            }
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
        let feeds = FEEDS.iter().zip(&self.feeds).filter(|(_, places)| !places.is_empty());
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

/// The ids in one row of the table, oldest first.
pub fn ids(last: i64, places: &[u8]) -> impl DoubleEndedIterator<Item = i64> + '_ {
    let (words, _) = places.as_chunks::<4>();
    words.iter().map(move |word| last - i64::from(u32::from_le_bytes(*word)))
}
