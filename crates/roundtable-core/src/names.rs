//! Names: within a workspace an id has one bearer, of whatever kind, and some are the server's own.

use crate::error::{Error, ErrorKind};
use crate::ids::{NodeId, Principal};
use crate::state::State;

/// What the server calls itself and its first account, in any case.
const SERVERS_OWN: [&str; 4] = ["system", "admin", "server", "roundtable"];

/// Whether an id is one that nobody may take: the server's own words, and its processes' ids.
pub fn is_reserved(state: &State, id: &str) -> bool {
    let process =
        || NodeId::new(id).ok().and_then(|id| state.node(&id)).is_some_and(|n| n.joined.kind == "server");
    SERVERS_OWN.iter().any(|own| own.eq_ignore_ascii_case(id)) || process()
}

/// Fails with `Conflict` unless an id is free. The server alone makes an account called `admin`.
pub(crate) fn free(state: &State, actor: &Principal, id: &str, field: &'static str) -> Result<(), Error> {
    let first_account = *actor == Principal::System && field == USERNAME && id == "admin";
    if is_reserved(state, id) && !first_account {
        return Err(
            Error::new(ErrorKind::Conflict, format!("{id} is a name of the server's own")).field(field)
        );
    }
    if state.bearer_of(id).is_some() {
        return Err(Error::new(ErrorKind::Conflict, format!("the name {id} is taken")).field(field));
    }
    Ok(())
}

/// The field that an account's name comes in.
pub(crate) const USERNAME: &str = "username";
