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

fn open(file: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(file)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch(
        "CREATE TABLE log (at INTEGER PRIMARY KEY, time INTEGER NOT NULL, room TEXT NOT NULL, kind TEXT NOT NULL,
         body TEXT NOT NULL) STRICT",
    )?;
    Ok(db)
}

/// Rows per second that are on the disk, `batch` of them per commit.
fn measure(dir: &Path, batch: usize, bytes: usize, seconds: f64) -> rusqlite::Result<f64> {
    let mut db = open(&dir.join(format!("batch-{batch}.db")))?;
    let body = "x".repeat(bytes);
    let (began, length) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut rows = 0i64;
    while began.elapsed() < length {
        let commit = db.transaction()?;
        {
            let mut insert = commit.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for _ in 0..batch {
                insert.execute(params![
                    rows,
                    1_700_000_000_000i64 + rows,
                    "bench-0",
                    "message.posted",
                    body
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
