//! Whether a credential still opens: the rules that every connection, resume and request is held against.

use roundtable_core::event::Event;
use roundtable_core::ids::{GuestId, Principal};
use roundtable_core::state::State;
use roundtable_core::users::Incarnation;

use crate::session::{Credential, Identity, Refusal};

/// Whether the account or agent may come in.
pub fn of(state: &State, who: &Principal) -> Result<(), Refusal> {
    let blocked = match who {
        Principal::Agent(id) => state.agent(id).ok_or(Refusal::Gone)?.suspended,
        Principal::User(id) => state.user(id).ok_or(Refusal::Gone)?.disabled,
        Principal::Visitor(id) => state.agent(&id.agent()).map(|_| false).ok_or(Refusal::Gone)?,
        // A guest's name ends when somebody registers it.
        Principal::Guest(id) if state.bearer_of(id.as_str()).is_some() => return Err(Refusal::NameTaken),
        Principal::Guest(_) | Principal::Node(_) => false,
        // The server has no credentials; a token that claims so was made by mistake.
        Principal::System => return Err(Refusal::Invalid),
    };
    if blocked { Err(Refusal::Suspended) } else { Ok(()) }
}

/// Whether the operator knows of whoever came in: of all but nodes that registered themselves. A node's incarnation says where
/// the operator's approval is.
pub fn is_approved(identity: &Identity) -> bool {
    !matches!(identity.principal, Principal::Node(_)) || identity.incarnation.born.0 > 0
}

/// Whether what was made for one bearer of a name, and with one secret, opens for who has the name now.
pub fn of_bearer(state: &State, who: &Principal, made: Incarnation) -> Result<(), Refusal> {
    match state.incarnation(who) {
        _ if matches!(who, Principal::Node(_)) => Ok(()),
        Some(present) if present.born != made.born => Err(Refusal::Gone),
        Some(present) if present.secret != made.secret => Err(Refusal::Revoked),
        Some(_) => Ok(()),
        None => Err(Refusal::Gone),
    }
}

/// Whether somebody who is in may stay: asked after every change of accounts, keys and tokens, and at a resume. A
/// credential's end alone sends nobody away.
pub fn of_identity(state: &State, identity: &Identity) -> Result<(), Refusal> {
    let who = &identity.principal;
    match &identity.credential {
        Credential::Token { jti } if state.token_revoked(jti) => return Err(Refusal::Revoked),
        Credential::ApiKey(id) | Credential::ChannelKey(id, _)
            if state.key(id).is_none_or(|key| key.revoked) =>
        {
            return Err(Refusal::Revoked);
        }
        Credential::Token { .. } | Credential::Secret => of_bearer(state, who, identity.incarnation)?,
        Credential::ApiKey(_) | Credential::ChannelKey(..) | Credential::Guest => {}
    }
    match (&identity.credential, of(state, who)) {
        // An agent may be known by its key alone until it registers.
        (Credential::ChannelKey(..), Err(Refusal::Gone)) => Ok(()),
        (_, standing) => standing,
    }
}

/// Whether an event may end somebody's right to be connected, seen from the state after it.
pub fn may_end(event: &Event, state: &State) -> bool {
    let guest = |name: &str| GuestId::new(name).is_ok_and(|name| state.online(&Principal::Guest(name)));
    match event {
        Event::UserAdded(e) => guest(e.user.as_str()),
        Event::AgentRegistered(e) => guest(e.agent.as_str()),
        Event::UserChanged(e) => e.disabled == Some(true) || e.password.is_some(),
        Event::AgentUpdated(e) => e.changes.suspended == Some(true),
        Event::KeyRevoked(_)
        | Event::TokenRevoked(_)
        | Event::AgentRemoved(_)
        | Event::AgentSecretSet(_)
        | Event::UserRemoved(_) => true,
        _ => false,
    }
}
