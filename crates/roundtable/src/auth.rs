//! Who somebody is: checks credentials against the state, makes tokens, counts failures. A payload never decides it.

use std::net::IpAddr;
use std::sync::Arc;

use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, GuestId, KeyId, Principal, UserId, WorkspaceId};
use roundtable_core::names;
use roundtable_core::state::State;
use roundtable_core::time::{Moment, Time};
use roundtable_core::users::{Incarnation, Key, KeyFor};
use roundtable_dialects::rest::{IssuedToken, TokenOrder};
use roundtable_dialects::session::{Credential, Credentials, Family, Identity, Proof, Refusal};
use roundtable_dialects::standing;

use crate::auth::failures::{Pair, Try};
use crate::auth::logins::Logins;
use crate::auth::passwords::Hashing;
use crate::auth::secrets::Held;
use crate::auth::tokens::{Claims, FAMILIES, Signer};
use crate::clock;
use crate::config;

pub mod challenges;
pub mod failures;
pub mod first_start;
pub mod jwt;
pub mod keys;
pub mod logins;
pub mod passwords;
pub mod secrets;
pub mod tokens;

/// Longest name a guest may choose, in bytes (MegaBot notes §1).
const MAX_GUEST_NAME: usize = 64;
/// How long somebody waits who came while too many passwords were being checked, in milliseconds.
const BUSY_MS: u64 = 1_000;

/// Where committed states are found. The runner implements it.
pub trait Directory: Send + Sync {
    /// The committed state of a workspace.
    fn state(&self, workspace: &WorkspaceId) -> Option<Arc<State>>;
    /// The present by a workspace's log time and by the wall clock.
    fn moment(&self, workspace: &WorkspaceId) -> Moment;
    /// The workspace whose domain key has this SHA-256 (64 hex digits).
    fn by_domain_key_hash(&self, hash: &str) -> Option<WorkspaceId>;
    /// The workspace of clients that name none. `None` before the first start has made it.
    fn default_workspace(&self) -> Option<WorkspaceId>;
    /// The workspace that knows a key. A directory of one workspace says that one.
    fn holding_key(&self, _key: &KeyId) -> Option<WorkspaceId> {
        self.default_workspace()
    }
}

/// Checks credentials and makes tokens. Cheap to clone; one for all shards.
#[derive(Clone)]
pub struct Identifier {
    directory: Arc<dyn Directory>,
    signer: Arc<Signer>,
    logins: Arc<Logins>,
    hashing: Hashing,
    lives: Arc<config::Auth>,
    /// Knows the admin token, where there is one.
    operator: Option<Held>,
}

/// A check that needs a slow hash.
struct Slow {
    workspace: WorkspaceId,
    principal: Principal,
    password: String,
    hash: Option<String>,
    attempt: Try,
}

/// What can be said without a slow hash.
enum Verdict {
    Now(Result<Identity, Refusal>),
    Slow(Box<Slow>),
}

type Found = (WorkspaceId, Arc<State>);
/// From where, and for how many milliseconds more it is blocked there, if it is.
type Origin = (IpAddr, Option<u64>);

impl Identifier {
    /// Over a directory, with the installation's signing secret. Fails with `Internal` only.
    pub fn new(
        directory: Arc<dyn Directory>,
        signing_secret: &[u8; 32],
        settings: &config::Auth,
    ) -> Result<Self, Error> {
        Ok(Self {
            directory,
            signer: Arc::new(Signer::new(signing_secret)?),
            logins: Arc::new(Logins::new(settings.failures, settings.failure_window.ms())),
            hashing: Hashing::new(settings.password_checks.get()),
            lives: Arc::new(settings.clone()),
            operator: None,
        })
    }

    /// The same, knowing the admin token: shown elsewhere it opens nothing and is no guess.
    #[must_use]
    pub fn beside_operator(self, secrets: Held) -> Self {
        Self { operator: Some(secrets), ..self }
    }

    /// The addresses and accounts for which too many passwords were wrong, each with the end of that.
    pub fn closed_accounts(&self) -> Vec<(Pair, Time)> {
        let closed = self.logins.reached(clock::steady());
        closed.into_iter().map(|(pair, until)| (pair, clock::shown(until))).collect()
    }

    /// Forgets the failed logins of an address, as [`failures::counted_address`] has it.
    pub fn forgive(&self, address: IpAddr) {
        self.logins.forgive(address);
    }

    /// Where slow hashes are computed.
    pub const fn hashing(&self) -> &Hashing {
        &self.hashing
    }

    /// How long the operator lets tokens of a family live, in seconds.
    pub fn lifetime_s(&self, family: Family) -> u32 {
        let lives = &self.lives;
        let life = match family {
            Family::Mxf => lives.mxf_token,
            Family::Aiwm => lives.aiwm_token,
            Family::OpenAgi => lives.openagi_token,
            Family::Login => lives.login_token,
            Family::Refresh => lives.refresh_token,
        };
        life.seconds()
    }

    /// Makes a token. Fails with `Internal` only.
    pub fn issue(&self, order: &TokenOrder) -> Result<IssuedToken, Error> {
        self.signer.issue(order, clock::now(), clock::random_u128())
    }

    /// What a token of any family says, whoever it was made for; `None` if it is not good.
    pub fn read_any(&self, token: &str) -> Option<Claims> {
        FAMILIES.iter().find_map(|family| self.signer.read(*family, token, clock::now()).ok())
    }

    /// Whether this server made a text to open something: a token, a key, a domain key, the admin token; of whatever kind
    /// and workspace, and whether or not it is past its end.
    pub fn is_genuine(&self, text: &str) -> bool {
        self.signer.made(text)
            || text.split_once(':').is_some_and(|(id, secret)| self.is_key(id, secret))
            || self.operator.as_ref().is_some_and(|secrets| secrets.is_admin(text))
            || self.directory.by_domain_key_hash(&keys::sha256_hex(text.as_bytes())).is_some()
    }

    fn is_key(&self, id: &str, secret: &str) -> bool {
        let Ok(id) = KeyId::new(id) else { return false };
        let state = self.directory.holding_key(&id).and_then(|workspace| self.directory.state(&workspace));
        let hash = state.as_ref().and_then(|state| state.key(&id)).map(|key| key.hash.as_str());
        keys::matches(secret, hash)
    }

    /// Whether it looks like one of our tokens and was signed by somebody else.
    pub fn is_forged(&self, token: &str) -> bool {
        self.signer.is_forged(token)
    }

    /// Checks tokens, keys and guests at once. `None`: a password or an agent's secret, which [`Self::identify`] checks.
    pub fn try_identify_now(
        &self,
        credentials: &Credentials,
        peer: IpAddr,
    ) -> Option<Result<Identity, Refusal>> {
        if matches!(credentials.proof, Proof::Password { .. } | Proof::AgentSecret { .. }) {
            return None;
        }
        match self.begin(credentials, (peer, None), clock::now()) {
            Verdict::Now(answer) => Some(answer),
            Verdict::Slow(_) => None,
        }
    }

    /// Checks any credentials; slow hashes run on blocking threads. `blocked` is for how many milliseconds more the address is
    /// blocked, if it is: passwords from there are read at a pace.
    pub async fn identify(
        &self,
        credentials: Credentials,
        peer: IpAddr,
        blocked: Option<u64>,
    ) -> Result<Identity, Refusal> {
        match self.begin(&credentials, (peer, blocked), clock::now()) {
            Verdict::Now(answer) => answer,
            Verdict::Slow(slow) => self.finish(*slow).await,
        }
    }

    async fn finish(&self, slow: Slow) -> Result<Identity, Refusal> {
        let Slow { workspace, principal, password, hash, attempt } = slow;
        match self.hashing.check(password, hash.clone()).await {
            Ok(true) => self.logins.succeeded(&attempt),
            Ok(false) => return Err(Refusal::Invalid),
            Err(passwords::Overrun) => {
                self.logins.succeeded(&attempt);
                return Err(Refusal::TooManyFailures(BUSY_MS));
            }
        }
        // The state may have moved on while the hash was computed.
        let state = self.directory.state(&workspace).ok_or(Refusal::NoDomain)?;
        standing::of(&state, &principal)?;
        if secret_of(&state, &principal) != hash.as_deref() {
            return Err(Refusal::Invalid);
        }
        let (incarnation, credential) =
            (state.incarnation(&principal).ok_or(Refusal::Gone)?, Credential::Secret);
        Ok(Identity { workspace, principal, credential, incarnation, expires_at: None })
    }

    fn begin(&self, credentials: &Credentials, from: Origin, now: Time) -> Verdict {
        let domain = match &credentials.domain_key {
            Some(key) => match self.by_domain_key(key) {
                Ok(found) => Some(found),
                Err(refusal) => return Verdict::Now(Err(refusal)),
            },
            None => None,
        };
        let checked = match &credentials.proof {
            Proof::Token(family, token) => self.token(*family, token, domain, now),
            Proof::ApiKey(key) => self.key(key, domain, Kind::User),
            // No token has a colon in it and every key has one, so each text can only be one of them.
            Proof::Bearer(family, text) if text.contains(':') => {
                let kind = if *family == Family::Mxf { Kind::Either } else { Kind::User };
                self.key(text, domain, kind)
            }
            Proof::Bearer(family, text) => self.token(*family, text, domain, now),
            Proof::ChannelKey { key_id, secret } => self.halves((key_id, secret), domain, Kind::Room),
            Proof::Guest(wish) => self.guest(wish.as_deref(), domain),
            Proof::Password { username, password } => {
                return self.password((username, password), (domain, from));
            }
            Proof::AgentSecret { agent, secret } => {
                return self.agent_secret((agent, secret), (domain, from));
            }
        };
        Verdict::Now(match checked {
            Err(Refusal::Invalid) if self.is_misplaced(&credentials.proof) => Err(Refusal::Elsewhere),
            checked => checked,
        })
    }

    /// Whether something that does not open is genuine all the same.
    fn is_misplaced(&self, proof: &Proof) -> bool {
        match proof {
            Proof::Token(_, text) | Proof::Bearer(_, text) | Proof::ApiKey(text) => self.is_genuine(text),
            Proof::ChannelKey { key_id, secret } => self.is_key(key_id, secret) || self.is_genuine(secret),
            Proof::Password { .. } | Proof::AgentSecret { .. } | Proof::Guest(_) => false,
        }
    }

    fn by_domain_key(&self, key: &str) -> Result<Found, Refusal> {
        let default = self.directory.default_workspace();
        let hash = keys::sha256_hex(key.as_bytes());
        let id = self.directory.by_domain_key_hash(&hash);
        let id = id.ok_or(if default.is_some() { Refusal::UnknownDomain } else { Refusal::NoDomain })?;
        self.with_state(id)
    }

    fn with_state(&self, id: WorkspaceId) -> Result<Found, Refusal> {
        self.directory.state(&id).map(|state| (id, state)).ok_or(Refusal::NoDomain)
    }

    fn or_default(&self, domain: Option<Found>) -> Result<Found, Refusal> {
        match domain {
            Some(found) => Ok(found),
            None => self.with_state(self.directory.default_workspace().ok_or(Refusal::NoDomain)?),
        }
    }

    fn token(
        &self,
        family: Family,
        token: &str,
        domain: Option<Found>,
        now: Time,
    ) -> Result<Identity, Refusal> {
        if token.is_empty() {
            return Err(Refusal::Missing);
        }
        let claims = self.signer.read(family, token, now)?;
        let (workspace, state) = match domain {
            Some((id, _)) if id != claims.workspace => return Err(Refusal::Invalid),
            Some(found) => found,
            None if !self.opens(family, &claims.workspace) => return Err(Refusal::Invalid),
            None => self.with_state(claims.workspace.clone()).map_err(|_| Refusal::Gone)?,
        };
        if state.token_revoked(&claims.jti) {
            return Err(Refusal::Revoked);
        }
        standing::of(&state, &claims.principal)?;
        let incarnation = incarnation_of(&state, &claims)?;
        let Claims { principal, jti, expires_at, .. } = claims;
        let credential = Credential::Token { jti };
        Ok(Identity { workspace, principal, credential, incarnation, expires_at: Some(expires_at) })
    }

    /// MXF and AIWM have tenants; the other dialects work in the default workspace (protocol notes §6), so their tokens open
    /// nothing else.
    fn opens(&self, family: Family, workspace: &WorkspaceId) -> bool {
        matches!(family, Family::Mxf | Family::Aiwm)
            || self.directory.default_workspace().is_some_and(|default| default == *workspace)
    }

    fn key(&self, text: &str, domain: Option<Found>, kind: Kind) -> Result<Identity, Refusal> {
        if text.is_empty() {
            return Err(Refusal::Missing);
        }
        self.halves(text.split_once(':').unwrap_or((text, "")), domain, kind)
    }

    fn halves(
        &self,
        (id, secret): (&str, &str),
        domain: Option<Found>,
        kind: Kind,
    ) -> Result<Identity, Refusal> {
        let id = KeyId::new(id).ok();
        // Only MXF's keys say where they belong; users' keys at the other dialects open the default workspace.
        let holder = || match kind {
            Kind::Room | Kind::Either => id.as_ref().and_then(|id| self.directory.holding_key(id)),
            Kind::User => None,
        };
        let (workspace, state) = match domain.or_else(|| self.with_state(holder()?).ok()) {
            Some(found) => found,
            None => self.or_default(None)?,
        };
        let key = id.as_ref().and_then(|id| state.key(id)).filter(|key| kind.fits(&key.opens));
        // Compared also when there is no such key: an unknown one costs what a wrong one costs.
        if !keys::matches(secret, key.map(|key| key.hash.as_str())) {
            return Err(Refusal::Invalid);
        }
        let key = key.ok_or(Refusal::Invalid)?;
        key_is_good(key, self.directory.moment(&workspace))?;
        let principal = key.bearer();
        match (&key.opens, standing::of(&state, &principal)) {
            // An agent may be known by its key alone until it registers.
            (KeyFor::Room { .. }, Err(Refusal::Gone)) => {}
            (_, standing) => standing?,
        }
        let credential = match &key.opens {
            KeyFor::User(_) => Credential::ApiKey(key.id.clone()),
            KeyFor::Room { room, .. } => Credential::ChannelKey(key.id.clone(), room.clone()),
        };
        let incarnation = state.incarnation(&principal).unwrap_or_default();
        Ok(Identity { workspace, principal, credential, incarnation, expires_at: key.expires_at })
    }

    fn guest(&self, wish: Option<&str>, domain: Option<Found>) -> Result<Identity, Refusal> {
        let (workspace, state) = self.or_default(domain)?;
        let drawn = || format!("guest_{:08x}", clock::random_u64() >> 32);
        let name = wish.map_or_else(drawn, str::to_owned);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(1..=MAX_GUEST_NAME).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(Refusal::Invalid);
        }
        // An agent may be known by its key alone until it registers.
        let by_key = AgentId::new(&name).map_err(|_| Refusal::Invalid).map(Principal::Agent)?;
        let has_key = state.keys_of(&by_key).any(|key| !key.revoked);
        if has_key || names::is_reserved(&state, &name) || state.bearer_of(&name).is_some() {
            return Err(Refusal::NameTaken);
        }
        let principal = Principal::Guest(GuestId::new(&name).map_err(|_| Refusal::Invalid)?);
        let (credential, incarnation) = (Credential::Guest, Incarnation::default());
        Ok(Identity { workspace, principal, credential, incarnation, expires_at: None })
    }

    fn password(
        &self,
        (username, password): (&str, &str),
        (domain, from): (Option<Found>, Origin),
    ) -> Verdict {
        let principal = UserId::new(username).map_or(Principal::System, Principal::User);
        self.slow((username, password), (domain, from), principal)
    }

    fn agent_secret(
        &self,
        (agent, secret): (&str, &str),
        (domain, from): (Option<Found>, Origin),
    ) -> Verdict {
        let principal = AgentId::new(agent).map_or(Principal::System, Principal::Agent);
        self.slow((agent, secret), (domain, from), principal)
    }

    fn slow(
        &self,
        (account, password): (&str, &str),
        (domain, (peer, blocked)): (Option<Found>, Origin),
        principal: Principal,
    ) -> Verdict {
        let (workspace, state) = match self.or_default(domain) {
            Ok(found) => found,
            Err(refusal) => return Verdict::Now(Err(refusal)),
        };
        // Equal names in two workspaces are two accounts.
        let account = match self.directory.default_workspace() {
            Some(default) if default == workspace => account.to_owned(),
            _ => format!("{workspace}/{account}"),
        };
        let attempt = match self.logins.begin((peer, &account), blocked, clock::steady()) {
            Ok(attempt) => attempt,
            Err(wait) => return Verdict::Now(Err(Refusal::TooManyFailures(wait))),
        };
        let (hash, password) = (secret_of(&state, &principal).map(str::to_owned), password.to_owned());
        Verdict::Slow(Box::new(Slow { workspace, principal, password, hash, attempt }))
    }
}

impl std::fmt::Debug for Identifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identifier")
    }
}

/// Which keys a place accepts.
#[derive(Clone, Copy)]
enum Kind {
    User,
    Room,
    Either,
}

impl Kind {
    const fn fits(self, opens: &KeyFor) -> bool {
        match (self, opens) {
            (Self::Either, _) => true,
            (Self::User, KeyFor::User(_)) | (Self::Room, KeyFor::Room { .. }) => true,
            (Self::User, KeyFor::Room { .. }) | (Self::Room, KeyFor::User(_)) => false,
        }
    }
}

fn key_is_good(key: &Key, now: Moment) -> Result<(), Refusal> {
    if key.revoked {
        return Err(Refusal::Revoked);
    }
    if key.is_over(now) { Err(Refusal::Expired) } else { Ok(()) }
}

/// The hash of somebody's password or secret. The server itself, which stands for nobody here, has none.
fn secret_of<'a>(state: &'a State, who: &Principal) -> Option<&'a str> {
    match who {
        Principal::User(id) => state.user(id)?.password.as_deref(),
        Principal::Agent(id) => state.agent(id)?.secret.as_deref(),
        Principal::Guest(_) | Principal::Visitor(_) | Principal::Node(_) | Principal::System => None,
    }
}

/// Which bearer of its name a token is for, if that is who has the name now. Tokens of 0.1.0 do not say: they are for whom had
/// the name, and with which secret, when they were made.
fn incarnation_of(state: &State, claims: &Claims) -> Result<Incarnation, Refusal> {
    let who = &claims.principal;
    if let Some(made) = claims.incarnation {
        return standing::of_bearer(state, who, made).map(|()| made);
    }
    let (born_at, rotated_at) = match who {
        Principal::Agent(id) => state.agent(id).map(|agent| (agent.created_at, agent.rotated_at)),
        Principal::User(id) => state.user(id).map(|user| (user.created_at, user.rotated_at)),
        Principal::Visitor(id) => state.agent(&id.agent()).map(|agent| (agent.created_at, None)),
        Principal::Guest(_) | Principal::Node(_) | Principal::System => None,
    }
    .unwrap_or_default();
    if claims.issued_at.as_seconds() < born_at.as_seconds() {
        return Err(Refusal::Gone);
    }
    if rotated_at.is_some_and(|at| claims.issued_at <= at) {
        return Err(Refusal::Revoked);
    }
    state.incarnation(who).ok_or(Refusal::Gone)
}

#[cfg(test)]
mod tests;
