//! Who somebody is, from the state and the tokens that were made: the rules of the server without its slow hashes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use roundtable_core::ids::{AgentId, GuestId, KeyId, Principal, UserId, WorkspaceId};
use roundtable_core::names;
use roundtable_core::state::State;
use roundtable_core::time::Time;
use roundtable_core::users::{Incarnation, KeyFor};
use roundtable_dialects::rest::{IssuedToken, TokenOrder};
use roundtable_dialects::session::{Credential, Credentials, Family, Identity, Proof, Refusal};
use roundtable_dialects::standing;
use roundtable_dialects::transcript::frame::hex;
use sha2::{Digest as _, Sha256};

/// The domain key of the one workspace.
pub const DOMAIN_KEY: &str = "domain-key";

/// The one workspace.
pub fn workspace() -> WorkspaceId {
    WorkspaceId::new("default").unwrap()
}

/// What stands in the log for a password or an agent's secret.
pub fn hash(secret: &str) -> String {
    format!("hash of {secret}")
}

struct Made {
    family: Family,
    subject: Principal,
    incarnation: Incarnation,
    jti: String,
    expires_at: Time,
}

/// The tokens that were made.
#[derive(Default)]
pub struct Desk {
    tokens: BTreeMap<String, Made>,
}

impl Desk {
    /// Makes a token in the shape of a signed one; `random` becomes its id.
    pub fn issue(&mut self, order: &TokenOrder, now: Time, random: u128) -> IssuedToken {
        let (issued, jti) = (now.as_seconds(), format!("{random:032x}"));
        let end = issued + i64::from(order.ttl_s);
        let mut claims = order.claims.clone();
        if let Some(claims) = claims.as_object_mut() {
            claims.extend([
                ("sub".to_owned(), order.subject.id().into()),
                ("principal".to_owned(), order.subject.to_string().into()),
                ("exp".to_owned(), end.into()),
                ("jti".to_owned(), jti.as_str().into()),
            ]);
        }
        let token =
            format!("{}.{}.memory", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let expires_at = Time(end * 1000);
        let (family, subject, incarnation) = (order.family, order.subject.clone(), order.incarnation);
        self.tokens
            .insert(token.clone(), Made { family, subject, incarnation, jti: jti.clone(), expires_at });
        IssuedToken { token, jti, expires_at }
    }

    /// The id of a token that was made.
    pub fn jti(&self, token: &str) -> Option<(String, Time)> {
        self.tokens.get(token).map(|made| (made.jti.clone(), made.expires_at))
    }

    /// Who shows these credentials.
    pub fn identify(&self, state: &State, shown: &Credentials, now: Time) -> Result<Identity, Refusal> {
        if shown.domain_key.as_ref().is_some_and(|key| key != DOMAIN_KEY) {
            return Err(Refusal::UnknownDomain);
        }
        match &shown.proof {
            Proof::Token(family, token) => self.token(state, *family, token, now),
            Proof::Bearer(Family::Mxf, text) if text.contains(':') => key(state, text, now, |_| true),
            Proof::ApiKey(text) => key(state, text, now, is_user),
            Proof::Bearer(_, text) if text.contains(':') => key(state, text, now, is_user),
            Proof::Bearer(family, token) => self.token(state, *family, token, now),
            Proof::ChannelKey { key_id, secret } => {
                key(state, &format!("{key_id}:{secret}"), now, |opens| !is_user(opens))
            }
            Proof::Password { username, password } => {
                let user = UserId::new(username).map_err(|_| Refusal::Invalid)?;
                let kept = state.user(&user).and_then(|user| user.password.clone());
                by_secret(state, Principal::User(user), kept, password)
            }
            Proof::AgentSecret { agent, secret } => {
                let agent = AgentId::new(agent).map_err(|_| Refusal::Invalid)?;
                let kept = state.agent(&agent).and_then(|agent| agent.secret.clone());
                by_secret(state, Principal::Agent(agent), kept, secret)
            }
            Proof::Guest(wish) => guest(state, wish.as_deref().unwrap_or("guest_00000001")),
        }
    }

    fn token(&self, state: &State, family: Family, token: &str, now: Time) -> Result<Identity, Refusal> {
        if token.is_empty() {
            return Err(Refusal::Missing);
        }
        let made = self.tokens.get(token).filter(|made| made.family == family).ok_or(Refusal::Invalid)?;
        if made.expires_at <= now {
            return Err(Refusal::Expired);
        }
        if state.token_revoked(&made.jti) {
            return Err(Refusal::Revoked);
        }
        standing::of(state, &made.subject)?;
        standing::of_bearer(state, &made.subject, made.incarnation)?;
        let credential = Credential::Token { jti: made.jti.clone() };
        let who = identity(state, made.subject.clone(), credential, Some(made.expires_at));
        Ok(Identity { incarnation: made.incarnation, ..who })
    }
}

fn identity(
    state: &State,
    principal: Principal,
    credential: Credential,
    expires_at: Option<Time>,
) -> Identity {
    let incarnation = state.incarnation(&principal).unwrap_or_default();
    Identity { workspace: workspace(), principal, credential, incarnation, expires_at }
}

fn is_user(opens: &KeyFor) -> bool {
    matches!(opens, KeyFor::User(_))
}

fn key(state: &State, text: &str, now: Time, fits: impl Fn(&KeyFor) -> bool) -> Result<Identity, Refusal> {
    if text.is_empty() {
        return Err(Refusal::Missing);
    }
    let (id, secret) = text.split_once(':').unwrap_or((text, ""));
    let id = KeyId::new(id).map_err(|_| Refusal::Invalid)?;
    let key = state.key(&id).filter(|key| fits(&key.opens)).ok_or(Refusal::Invalid)?;
    if key.hash != hex(&Sha256::digest(secret.as_bytes())) {
        return Err(Refusal::Invalid);
    }
    if key.revoked {
        return Err(Refusal::Revoked);
    }
    if key.expires_at.is_some_and(|end| now >= end) {
        return Err(Refusal::Expired);
    }
    let principal = key.bearer();
    match (&key.opens, standing::of(state, &principal)) {
        (KeyFor::Room { .. }, Err(Refusal::Gone)) => {}
        (_, standing) => standing?,
    }
    let credential = match &key.opens {
        KeyFor::User(_) => Credential::ApiKey(key.id.clone()),
        KeyFor::Room { room, .. } => Credential::ChannelKey(key.id.clone(), room.clone()),
    };
    Ok(identity(state, principal, credential, key.expires_at))
}

fn by_secret(state: &State, who: Principal, kept: Option<String>, shown: &str) -> Result<Identity, Refusal> {
    if kept.is_none_or(|kept| kept != hash(shown)) {
        return Err(Refusal::Invalid);
    }
    standing::of(state, &who)?;
    Ok(identity(state, who, Credential::Secret, None))
}

fn guest(state: &State, name: &str) -> Result<Identity, Refusal> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(Refusal::Invalid);
    }
    if names::is_reserved(state, name) || state.bearer_of(name).is_some() {
        return Err(Refusal::NameTaken);
    }
    let guest = GuestId::new(name).map_err(|_| Refusal::Invalid)?;
    Ok(identity(state, Principal::Guest(guest), Credential::Guest, None))
}
