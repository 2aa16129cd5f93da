//! Bare SQLite as the yardstick for acknowledged messages: the same bytes, committed durably in groups, nothing else.
use clap::Parser;
use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about)]
struct Cli {
    /// Folder on the disk to be measured; the database is made in a new folder there and removed.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Rows per commit, one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,64,1024")]
    batch: Vec<usize>,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 150)]
    bytes: usize,
}

/// The least a log with rooms needs: where, when, who, what, the number within the room, and room for the hash of the chain.
/// No index: nothing is looked up.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(file)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch(
        "CREATE TABLE log (at INTEGER PRIMARY KEY, time INTEGER NOT NULL, room TEXT NOT NULL, number INTEGER NOT NULL,
         actor TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL) STRICT",
    )?;
    Ok(db)
}

const INSERT: &str = "INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const ROOMS: usize = 16;

/// Rows per second that are on the disk, `batch` of them per commit.
fn measure(dir: &Path, batch: usize, bytes: usize, seconds: f64) -> rusqlite::Result<f64> {
    let mut db = open(&dir.join(format!("batch-{batch}.db")))?;
    let rooms: Vec<String> = (0..ROOMS).map(|n| format!("bench-{n}")).collect();
    let (body, hash) = ("x".repeat(bytes), [7u8; 32]);
    let (began, length) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut rows = 0i64;
    while began.elapsed() < length {
        let commit = db.transaction()?;
        {
            let mut insert = commit.prepare_cached(INSERT)?;
            for _ in 0..batch {
                // As with the sockets, sixteen rooms take turns.
                let (room, number) = (&rooms[rows as usize % ROOMS], rows / ROOMS as i64);
                let time = 1_700_000_000_000 + rows;
                insert.execute(params![
                    rows,
                    time,
                    room,
                    number,
                    "agent:scout",
                    "message.posted",
                    body,
                    hash
                ])?;
                rows += 1;
            }
        }
        commit.commit()?;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cli = Cli::parse();
    let dir = tempfile::tempdir_in(&cli.dir)?;
    let figures = cli
        .batch
        .iter()
        .map(|b| Ok(format!("\"rows_per_s_{b}\":{:.1}", measure(dir.path(), *b, cli.bytes, cli.seconds)?)))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    println!("{{{}}}", figures.join(","));
    Ok(())
}
