//! The first start: secrets, the default workspace, one administrator with a random password, and the file that tells them.

use std::fs;
use std::io;
use std::path::Path;

use roundtable_core::command::Command;
use roundtable_core::error::Error;
use roundtable_core::ids::UserId;
use roundtable_core::state::State;
use roundtable_core::users::{UserAdded, UserRole, WorkspaceCreated};
use serde::{Deserialize, Serialize};

use crate::auth::secrets::{Secrets, make_private_dir, write_private};
use crate::auth::{keys, passwords};
use crate::log::sqlite::FILE as LOG;

/// Name of the file that tells a person what to know.
pub const CREDENTIALS: &str = "credentials.json";
/// The workspace of clients that name none.
pub const WORKSPACE: &str = "default";
/// The first account.
pub const ADMIN: &str = "admin";

/// The content of `credentials.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstCredentials {
    /// The workspace that was made.
    pub workspace: String,
    /// Its domain key, for MXF clients.
    pub domain_key: String,
    /// The first account.
    pub admin: AdminAccount,
    /// What the command line shows to the server.
    pub admin_token: String,
}

/// Name and password of the first account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminAccount {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl FirstCredentials {
    fn draw() -> Self {
        Self {
            workspace: WORKSPACE.into(),
            domain_key: keys::draw_secret(),
            admin: AdminAccount { username: ADMIN.into(), password: keys::draw_secret() },
            admin_token: keys::draw_secret(),
        }
    }

    /// Changes those of a data directory; where there are none, nothing happens.
    pub fn change(dir: &Path, change: impl FnOnce(&mut Self)) -> io::Result<()> {
        let Some(mut noted) = Self::read(dir)? else { return Ok(()) };
        change(&mut noted);
        write_private(&dir.join(CREDENTIALS), &noted)
    }

    /// Those of a data directory; `None` if there is no such file. Fails when it cannot be read or is damaged.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(CREDENTIALS);
        let told = |what: &dyn std::fmt::Display| io::Error::other(format!("{}: {what}", path.display()));
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| told(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(told(&error)),
        }
    }
}

impl std::fmt::Debug for FirstCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FirstCredentials(hidden)")
    }
}

/// What a start found or made.
#[derive(Debug)]
pub struct Prepared {
    /// The installation's secrets.
    pub secrets: Secrets,
    /// To be asked by the server itself, in order, before anybody may come in. Empty but at the first start, or where that
    /// one was cut off.
    pub commands: Vec<Command>,
    /// The credentials file was written just now.
    pub wrote_credentials: bool,
}

/// Fails where there are secrets of a log that is not there. Asked before a log is opened, which would make an empty one in the
/// place of the one that is to be restored.
pub fn has_its_log(dir: &Path) -> io::Result<()> {
    let begun = Secrets::read(dir)?.is_some_and(|secrets| secrets.begun);
    if begun && !dir.join(LOG).exists() { Err(no_log(dir)) } else { Ok(()) }
}

fn no_log(dir: &Path) -> io::Error {
    io::Error::other(format!(
        "{dir}: there are secrets and no log; restore `{LOG}` from a backup. It is whole alone after a stop; after a crash \
         `{LOG}-wal` belongs to it. To begin anew, remove `secrets` and `{CREDENTIALS}`",
        dir = dir.display()
    ))
}

/// Prepares a data directory. `state` is that of the default workspace, empty if its log is. What the first start draws is on
/// disk before the log says that it happened, so a start that is cut off at any point is simply done again.
pub fn prepare(dir: &Path, state: &State) -> io::Result<Prepared> {
    make_private_dir(dir)?;
    let found = (Secrets::read(dir)?, FirstCredentials::read(dir)?);
    let begun = state.head.0 > 0;
    if !begun && found.0.as_ref().is_some_and(|secrets| secrets.begun) {
        return Err(no_log(dir));
    }
    let (secrets, credentials, wrote_credentials) = match found {
        (Some(secrets), Some(credentials)) if secrets.is_admin(&credentials.admin_token) => {
            (secrets, Some(credentials), false)
        }
        // The operator keeps the file elsewhere.
        (Some(secrets), credentials) if begun && state.users().len() > 0 => (secrets, credentials, false),
        (old, credentials) if !begun => {
            let drawn = FirstCredentials::draw();
            let secrets = match old {
                Some(old) => {
                    Secrets { admin_token_hash: keys::sha256_hex(drawn.admin_token.as_bytes()), ..old }
                }
                None => Secrets::draw(&drawn.admin_token),
            };
            drop(credentials);
            secrets.write(dir)?;
            write_private(&dir.join(CREDENTIALS), &drawn)?;
            (secrets, Some(drawn), true)
        }
        _ => {
            let message = format!(
                "{}: the log has begun but its secrets are missing; restore `secrets` and `{CREDENTIALS}` from a backup",
                dir.display()
            );
            return Err(io::Error::other(message));
        }
    };
    let commands =
        commands(state, credentials.as_ref()).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Prepared { secrets, commands, wrote_credentials })
}

fn commands(state: &State, credentials: Option<&FirstCredentials>) -> Result<Vec<Command>, Error> {
    let (mut commands, Some(credentials)) = (Vec::new(), credentials) else { return Ok(Vec::new()) };
    if state.head.0 == 0 {
        commands.push(Command::CreateWorkspace(WorkspaceCreated {
            name: credentials.workspace.clone(),
            domain_key_hash: keys::sha256_hex(credentials.domain_key.as_bytes()),
        }));
    }
    if state.users().len() == 0 {
        commands.push(Command::AddUser(UserAdded {
            user: UserId::new(&credentials.admin.username)?,
            role: UserRole::Owner,
            password: Some(passwords::hash(&credentials.admin.password)?),
        }));
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use roundtable_core::command::Command;
    use roundtable_core::engine::{Context, decide};
    use roundtable_core::event::Record;
    use roundtable_core::ids::{Principal, UserId};
    use roundtable_core::state::State;
    use roundtable_core::time::Time;
    use roundtable_core::users::UserRole;

    use super::{CREDENTIALS, FirstCredentials, prepare};
    use crate::auth::keys::sha256_hex;
    use crate::auth::secrets::Secrets;

    fn carry_out(state: &mut State, command: &Command) {
        let now = Time(1_000);
        let ctx = Context {
            now,
            at: now,
            actor: Principal::System,
            by: Principal::System,
            connection: None,
            random: 1,
            client: None,
        };
        for (room, event) in decide(state, command, &ctx).unwrap().events {
            let (offset, actor) = (state.head.next(), Principal::System);
            state.apply(&Record {
                offset,
                room_seq: None,
                at: now,
                t: now,
                actor,
                room,
                client: None,
                event,
            });
        }
    }

    fn text(dir: &Path) -> String {
        std::fs::read_to_string(dir.join(CREDENTIALS)).unwrap()
    }

    #[test]
    fn the_first_start_makes_a_workspace_and_an_owner() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::default();
        let prepared = prepare(dir.path(), &state).unwrap();
        assert!(prepared.wrote_credentials);
        assert_eq!(prepared.commands.len(), 2);
        prepared.commands.iter().for_each(|command| carry_out(&mut state, command));
        let told = FirstCredentials::read(dir.path()).unwrap().unwrap();
        assert_eq!(state.domain_key_hash, sha256_hex(told.domain_key.as_bytes()));
        assert!(prepared.secrets.is_admin(&told.admin_token));
        assert_eq!(state.user(&UserId::new("admin").unwrap()).unwrap().role, UserRole::Owner);
        let keys = serde_json::from_str::<serde_json::Value>(&text(dir.path())).unwrap();
        let names: Vec<_> = keys.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["workspace", "domain_key", "admin", "admin_token"]);
        assert!(!format!("{told:?}{prepared:?}").contains(&told.admin.password));

        let again = prepare(dir.path(), &state).unwrap();
        assert!(again.commands.is_empty() && !again.wrote_credentials);
        assert_eq!(again.secrets, prepared.secrets);
    }

    #[test]
    fn a_start_that_was_cut_off_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = prepare(dir.path(), &State::default()).unwrap();
        let before = text(dir.path());
        let mut state = State::default();
        let second = prepare(dir.path(), &state).unwrap();
        assert_eq!(
            (second.commands.len(), text(dir.path())),
            (2, before),
            "files were written, the log was not"
        );

        carry_out(&mut state, &first.commands[0]);
        let third = prepare(dir.path(), &state).unwrap();
        assert!(
            matches!(third.commands.as_slice(), [Command::AddUser(_)]),
            "the workspace is there, its owner not"
        );

        std::fs::remove_file(dir.path().join(CREDENTIALS)).unwrap();
        let fourth = prepare(dir.path(), &State::default()).unwrap();
        assert!(fourth.wrote_credentials && fourth.commands.len() == 2, "cut off between the two files");
        assert_eq!(fourth.secrets.signing, first.secrets.signing);
    }

    #[test]
    fn secrets_without_their_log_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut secrets = prepare(dir.path(), &State::default()).unwrap().secrets;
        assert!(prepare(dir.path(), &State::default()).is_ok(), "a start that was cut off is done again");
        secrets = prepare(dir.path(), &State::default()).map(|again| again.secrets).unwrap_or(secrets);
        secrets.begin(dir.path()).unwrap();
        let refused = prepare(dir.path(), &State::default()).unwrap_err().to_string();
        assert!(refused.contains("no log") && refused.contains("roundtable.db"), "{refused}");
        assert_eq!(Secrets::read(dir.path()).unwrap(), Some(secrets), "nothing new is made over old secrets");
    }

    #[test]
    fn credentials_may_be_kept_elsewhere_but_secrets_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::default();
        let prepared = prepare(dir.path(), &state).unwrap();
        prepared.commands.iter().for_each(|command| carry_out(&mut state, command));
        std::fs::remove_file(dir.path().join(CREDENTIALS)).unwrap();
        assert_eq!(prepare(dir.path(), &state).unwrap().secrets, prepared.secrets);
        assert!(!dir.path().join(CREDENTIALS).exists());
        std::fs::remove_file(dir.path().join(crate::auth::secrets::FILE)).unwrap();
        assert!(prepare(dir.path(), &state).unwrap_err().to_string().contains("restore"));
        assert_eq!(Secrets::read(dir.path()).unwrap(), None, "nothing new is made over an old log");
    }
}
