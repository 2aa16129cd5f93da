//! Room on the disk that is kept for a start: on a full disk the log could not even be opened for reading, since SQLite needs
//! a small file beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::private;

/// The file in the data directory.
const FILE: &str = "reserve";
/// Its length in bytes: enough for the shared index of a long write-ahead log, and for the notes of a start.
const BYTES: u64 = 256 << 10;

/// The file.
pub struct Reserve(PathBuf);

impl Reserve {
    /// Of a data directory.
    pub fn of(dir: &Path) -> Self {
        Self(dir.join(FILE))
    }

    /// Takes room, or what there is of it.
    pub fn keep(&self) {
        if fs::metadata(&self.0).is_ok_and(|file| file.len() >= BYTES) {
            return;
        }
        if let Err(error) = self.fill() {
            tracing::debug!(%error, "there is no room to keep for the next start");
        }
    }

    /// A disk gives room only for what is written, and some give none for zeros.
    fn fill(&self) -> io::Result<()> {
        let open = |options: &mut OpenOptions| -> io::Result<File> { private(options).open(&self.0) };
        let mut file = open(OpenOptions::new().create(true).write(true).truncate(true))?;
        let block = [0xa5; 4 << 10];
        for _ in 0..BYTES / block.len() as u64 {
            file.write_all(&block)?;
        }
        file.sync_all()
    }

    /// Gives the room back. Says whether there was any.
    pub fn release(&self) -> bool {
        fs::remove_file(&self.0).is_ok()
    }
}
