//! The installation's own secrets and the files that hold them, readable by their owner alone.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::auth::first_start::FirstCredentials;
use crate::auth::keys;
use crate::clock;

/// Name of the file in the data directory.
pub const FILE: &str = "secrets";

/// What an installation keeps for itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// 256 random bits from which all token keys are derived.
    pub signing: [u8; 32],
    /// SHA-256 of the admin token, 64 hex digits.
    pub admin_token_hash: String,
    /// The log that they belong to has begun: without it they open nothing.
    pub begun: bool,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    signing: String,
    admin_token_hash: String,
    #[serde(default)]
    begun: bool,
}

impl Secrets {
    /// Fresh ones, for an admin token that was drawn elsewhere.
    pub fn draw(admin_token: &str) -> Self {
        let admin_token_hash = keys::sha256_hex(admin_token.as_bytes());
        Self { signing: clock::random_bytes(), admin_token_hash, begun: false }
    }

    /// Those of a data directory; `None` before the first start. Fails when the file cannot be read or is damaged.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(&path, &error)),
        };
        let damaged = || io::Error::other(format!("{}: damaged; restore it from a backup", path.display()));
        let wire: Wire = serde_json::from_str(&text).map_err(|_| damaged())?;
        let signing = STANDARD.decode(&wire.signing).map_err(|_| damaged())?;
        let signing = <[u8; 32]>::try_from(signing).map_err(|_| damaged())?;
        Ok(Some(Self { signing, admin_token_hash: wire.admin_token_hash, begun: wire.begun }))
    }

    /// Writes them into a data directory.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let (signing, begun) = (STANDARD.encode(self.signing), self.begun);
        let wire = Wire { signing, admin_token_hash: self.admin_token_hash.clone(), begun };
        write_private(&dir.join(FILE), &wire)
    }

    /// Notes that the log has begun. Waits for the disk.
    pub fn begin(&mut self, dir: &Path) -> io::Result<()> {
        if !self.begun {
            Self { begun: true, ..self.clone() }.write(dir)?;
            self.begun = true;
        }
        Ok(())
    }

    /// Whether this is the admin token.
    pub fn is_admin(&self, token: &str) -> bool {
        keys::matches(token, Some(&self.admin_token_hash))
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(hidden)")
    }
}

/// The secrets of a running server: the admin token may be replaced under it. Cheap to clone; all clones see the same.
#[derive(Clone)]
pub struct Held(Arc<Place>);

struct Place {
    dir: PathBuf,
    now: ArcSwap<Secrets>,
    /// Files are changed one after the other.
    turn: Mutex<()>,
}

impl Held {
    /// Those of a data directory.
    pub fn new(dir: &Path, secrets: Secrets) -> Self {
        let (dir, now) = (dir.to_owned(), ArcSwap::from_pointee(secrets));
        Self(Arc::new(Place { dir, now, turn: Mutex::default() }))
    }

    /// Whether this is the admin token.
    pub fn is_admin(&self, token: &str) -> bool {
        self.0.now.load().is_admin(token)
    }

    /// The 256 random bits from which all token keys are derived.
    pub fn signing(&self) -> [u8; 32] {
        self.0.now.load().signing
    }

    /// Draws another admin token and writes it down; the old one opens nothing from then on. Waits for the disk. Fails when it
    /// cannot be written; then the old one holds.
    pub fn renew_admin_token(&self) -> io::Result<String> {
        let token = keys::draw_secret();
        let mut before = None;
        let turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        FirstCredentials::change(&self.0.dir, |noted| {
            before = Some(std::mem::replace(&mut noted.admin_token, token.clone()));
        })?;
        let admin_token_hash = keys::sha256_hex(token.as_bytes());
        let secrets = Secrets { admin_token_hash, ..(**self.0.now.load()).clone() };
        if let Err(error) = secrets.write(&self.0.dir) {
            if let Some(before) = before {
                FirstCredentials::change(&self.0.dir, |noted| noted.admin_token = before)?;
            }
            return Err(error);
        }
        self.0.now.store(Arc::new(secrets));
        drop(turn);
        Ok(token)
    }

    /// Keeps `credentials.json` true, where it is kept. Waits for the disk.
    pub fn note(&self, change: impl FnOnce(&mut FirstCredentials)) -> io::Result<()> {
        let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        FirstCredentials::change(&self.0.dir, change)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held(hidden)")
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Makes a data directory that only its owner may enter. One that exists is left as it is.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|error| named(dir, &error))
}

/// What others than the owner and its group may do with a file or a directory that holds secrets, in words; `None` if nothing,
/// or if it is not there.
pub fn exposed(path: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let meta = fs::metadata(path).ok()?;
        let (mode, is_dir) = (meta.permissions().mode() & 0o777, meta.is_dir());
        let may = match (mode & 0o022, mode & 0o007) {
            (0, 0) => return None,
            (0, _) if is_dir => "look into it",
            (0, _) => "read it",
            _ => "change it",
        };
        let right = if is_dir { "0700" } else { "0600" };
        Some(format!("{}: others may {may} (mode {mode:04o}): `chmod {right}` it", path.display()))
    }
    #[cfg(not(unix))]
    None
}

/// Replaces a file by the JSON of `value`, mode 0600, synced; a crash leaves the old one or the new one.
pub fn write_private(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    let place = path.with_extension(format!("{:016x}.new", clock::random_u64()));
    let done = write_new(&place, text.as_bytes()).and_then(|()| fs::rename(&place, path));
    if let Err(error) = done {
        // The half-written file holds secrets; that it cannot be removed changes nothing about the failure.
        let _ = fs::remove_file(&place);
        return Err(named(path, &error));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| named(dir, &error))
}

fn write_new(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(place)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{FILE, Secrets, make_private_dir, write_private};

    #[cfg(unix)]
    fn mode(path: &std::path::Path) -> u32 {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_come_back_as_they_were_and_nobody_else_may_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        make_private_dir(&data).unwrap();
        assert_eq!(Secrets::read(&data).unwrap(), None);
        let secrets = Secrets::draw("token");
        secrets.write(&data).unwrap();
        assert_eq!(Secrets::read(&data).unwrap(), Some(secrets.clone()));
        secrets.write(&data).unwrap();
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "nothing is left beside it");
        #[cfg(unix)]
        assert_eq!((mode(&data), mode(&data.join(FILE))), (0o700, 0o600));
        assert!(
            !std::fs::read_to_string(data.join(FILE)).unwrap().contains("\"token\""),
            "only its hash is kept"
        );
    }

    #[test]
    fn a_new_admin_token_takes_the_old_ones_place_in_every_file() {
        use super::super::first_start::{FirstCredentials, prepare};
        let dir = tempfile::tempdir().unwrap();
        let secrets = prepare(dir.path(), &roundtable_core::state::State::default()).unwrap().secrets;
        let old = FirstCredentials::read(dir.path()).unwrap().unwrap().admin_token;
        let held = super::Held::new(dir.path(), secrets.clone());
        let new = held.clone().renew_admin_token().unwrap();
        assert!(held.is_admin(&new) && !held.is_admin(&old));
        let read = Secrets::read(dir.path()).unwrap().unwrap();
        assert!(read.is_admin(&new) && read.signing == secrets.signing);
        assert_eq!(FirstCredentials::read(dir.path()).unwrap().unwrap().admin_token, new);
        std::fs::remove_file(dir.path().join(super::super::first_start::CREDENTIALS)).unwrap();
        let newest = held.renew_admin_token().unwrap();
        assert!(Secrets::read(dir.path()).unwrap().unwrap().is_admin(&newest));
        assert_eq!(
            FirstCredentials::read(dir.path()).unwrap(),
            None,
            "who keeps it elsewhere is not given it again"
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_read_or_change_is_told() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        std::fs::write(&file, "").unwrap();
        for (path, mode, told) in [
            (&file, 0o600, None),
            (&file, 0o640, None),
            (&file, 0o644, Some("others may read it (mode 0644)")),
            (&file, 0o660, Some("others may change it (mode 0660)")),
            (&dir.path().to_owned(), 0o750, None),
            (&dir.path().to_owned(), 0o755, Some("others may look into it (mode 0755)")),
            (&dir.path().to_owned(), 0o777, Some("others may change it (mode 0777)")),
        ] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = super::exposed(path);
            assert_eq!(found.is_some(), told.is_some(), "{mode:o}: {found:?}");
            assert!(found.unwrap_or_default().contains(told.unwrap_or_default()));
        }
        assert_eq!(super::exposed(&dir.path().join("nothing")), None);
    }

    #[test]
    fn two_installations_differ() {
        let (a, b) = (Secrets::draw("t"), Secrets::draw("t"));
        assert_ne!(a.signing, b.signing);
        assert!(a.is_admin("t") && !a.is_admin("u") && !a.is_admin(""));
        assert!(!format!("{a:?}").contains(&a.admin_token_hash));
    }

    #[test]
    fn a_damaged_file_is_an_error_not_a_new_start() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", "{\"signing\":\"AAAA\",\"admin_token_hash\":\"\"}"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(Secrets::read(dir.path()).unwrap_err().to_string().contains("damaged"));
        }
        assert!(write_private(std::path::Path::new("/nowhere/x"), &1).is_err());
    }
}
