//! Tests of identity: every proof, every refusal, over states that the engine itself made.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use roundtable_core::agents::{AgentCard, AgentChanges, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::engine::{Context, decide};
use roundtable_core::event::Record;
use roundtable_core::ids::{AgentId, KeyId, NodeId, Principal, RoomId, UserId, WorkspaceId};
use roundtable_core::rooms::{CreateRoom, RoomCard};
use roundtable_core::state::State;
use roundtable_core::time::{Moment, Time};
use roundtable_core::users::{
    Incarnation, KeyAdded, KeyFor, TokenRevoked, UserAdded, UserChanged, UserRole, WorkspaceCreated,
};
use roundtable_dialects::rest::TokenOrder;
use roundtable_dialects::session::{Credential, Credentials, Family, Identity, Proof, Refusal};
use roundtable_dialects::standing;

use super::keys::{FreshKey, sha256_hex};
use super::{Directory, Identifier, passwords};
use crate::clock;
use crate::config::{Auth, Rate};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Default)]
struct Place {
    state: Mutex<State>,
    empty: bool,
}

impl Place {
    fn ask(&self, command: Command) {
        self.ask_at(clock::now().plus(-2_000), command);
    }

    /// The wall clock says `at`; log time goes its own way.
    fn ask_at(&self, at: Time, command: Command) {
        let mut state = self.state.lock().unwrap();
        let (now, actor) = (clock::now().plus(-2_000), Principal::System);
        let ctx = Context {
            now,
            at,
            actor: actor.clone(),
            by: actor.clone(),
            connection: None,
            random: 1,
            client: None,
        };
        for (room, event) in decide(&state, &command, &ctx).unwrap().events {
            let room_seq = room.as_ref().map(|room| state.next_in_room(room));
            let offset = state.head.next();
            state.apply(&Record {
                offset,
                room_seq,
                at,
                t: now,
                actor: actor.clone(),
                room,
                client: None,
                event,
            });
        }
    }
}

impl Directory for Place {
    fn state(&self, workspace: &WorkspaceId) -> Option<Arc<State>> {
        (workspace.as_str() == "default" && !self.empty).then(|| Arc::new(self.state.lock().unwrap().clone()))
    }

    fn moment(&self, _: &WorkspaceId) -> Moment {
        Moment { t: clock::now(), at: clock::now() }
    }

    fn by_domain_key_hash(&self, hash: &str) -> Option<WorkspaceId> {
        let state = self.state.lock().unwrap();
        (!self.empty && state.domain_key_hash == hash).then(|| WorkspaceId::new("default").unwrap())
    }

    fn default_workspace(&self) -> Option<WorkspaceId> {
        (!self.empty).then(|| WorkspaceId::new("default").unwrap())
    }
}

struct World {
    place: Arc<Place>,
    identifier: Identifier,
    user_key: FreshKey,
    room_key: FreshKey,
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn added(user: &str, password: &str) -> Command {
    let password = Some(passwords::hash(password).unwrap());
    Command::AddUser(UserAdded { user: UserId::new(user).unwrap(), role: UserRole::Viewer, password })
}

fn key(fresh: &FreshKey, opens: KeyFor, expires_at: Option<Time>) -> Command {
    let (key, hash) = (fresh.id.clone(), fresh.hash.clone());
    Command::AddKey(KeyAdded { key, hash, opens, expires_at, name: String::new() })
}

fn for_room(agent_id: &str) -> KeyFor {
    KeyFor::Room { agent: agent(agent_id), room: RoomId::new("lobby").unwrap() }
}

fn world() -> World {
    let place = Arc::new(Place::default());
    let (user_key, room_key) = (FreshKey::for_user().unwrap(), FreshKey::for_room().unwrap());
    place.ask(Command::CreateWorkspace(WorkspaceCreated {
        name: "default".into(),
        domain_key_hash: sha256_hex(b"domain"),
    }));
    place.ask(added("ann", "secret"));
    let card = AgentCard { name: "Scout".into(), ..AgentCard::default() };
    place.ask(Command::RegisterAgent(RegisterAgent { agent: agent("scout"), card: card.clone() }));
    place.ask(Command::SetAgentSecret(agent("scout"), passwords::hash("agent secret").unwrap()));
    place.ask(Command::RegisterAgent(RegisterAgent { agent: agent("mute"), card }));
    let room = Some(RoomId::new("lobby").unwrap());
    place.ask(Command::CreateRoom(CreateRoom { room, card: RoomCard::default() }));
    place.ask(key(&user_key, KeyFor::User(user("ann")), None));
    place.ask(key(&room_key, for_room("scout"), None));
    let settings = Auth { failures: Rate::of(3), ..Auth::default() };
    let identifier = Identifier::new(place.clone(), &[1; 32], &settings).unwrap();
    World { place, identifier, user_key, room_key }
}

impl World {
    async fn with(&self, domain: Option<&str>, proof: Proof) -> Result<Identity, Refusal> {
        let credentials = Credentials { domain_key: domain.map(str::to_owned), proof };
        if let Some(at_once) = self.identifier.try_identify_now(&credentials, PEER) {
            return at_once;
        }
        self.identifier.identify(credentials, PEER, None).await
    }

    async fn check(&self, proof: Proof) -> Result<Identity, Refusal> {
        self.with(None, proof).await
    }

    async fn who(&self, proof: Proof) -> Result<String, Refusal> {
        self.check(proof).await.map(|identity| identity.principal.to_string())
    }

    fn token(&self, family: Family, subject: &str) -> (String, String) {
        let subject = Principal::parse(subject).unwrap();
        let workspace = WorkspaceId::new("default").unwrap();
        let incarnation = self.place.state.lock().unwrap().incarnation(&subject).unwrap_or_default();
        let claims = serde_json::Value::Null;
        let order = TokenOrder { family, subject, incarnation, workspace, ttl_s: 60, claims };
        let issued = self.identifier.issue(&order).unwrap();
        (issued.token, issued.jti)
    }
}

fn password(username: &str, password: &str) -> Proof {
    Proof::Password { username: username.into(), password: password.into() }
}

fn secret(agent: &str, secret: &str) -> Proof {
    Proof::AgentSecret { agent: agent.into(), secret: secret.into() }
}

fn halves(key: &FreshKey) -> Proof {
    Proof::ChannelKey { key_id: key.id.to_string(), secret: key.secret.clone() }
}

#[tokio::test]
async fn every_proof_opens_to_its_own_principal() {
    let w = world();
    assert_eq!(w.who(password("ann", "secret")).await.unwrap(), "user:ann");
    assert_eq!(w.who(secret("scout", "agent secret")).await.unwrap(), "agent:scout");
    assert_eq!(w.who(Proof::ApiKey(w.user_key.whole())).await.unwrap(), "user:ann");
    assert_eq!(w.who(halves(&w.room_key)).await.unwrap(), "agent:scout");
    assert_eq!(
        w.who(Proof::Token(Family::Aiwm, w.token(Family::Aiwm, "agent:scout").0)).await.unwrap(),
        "agent:scout"
    );
    assert_eq!(w.who(Proof::Guest(Some("bob".into()))).await.unwrap(), "guest:bob");
    let drawn = w.who(Proof::Guest(None)).await.unwrap();
    assert!(drawn.strip_prefix("guest:guest_").is_some_and(|hex| hex.len() == 8), "{drawn}");
    let identity = w.check(halves(&w.room_key)).await.unwrap();
    assert_eq!(
        identity.credential,
        Credential::ChannelKey(w.room_key.id.clone(), RoomId::new("lobby").unwrap())
    );
    assert_eq!(identity.workspace.as_str(), "default");
}

#[tokio::test]
async fn a_bearer_is_a_token_or_a_key_and_a_channel_key_only_for_mxf() {
    let w = world();
    let bearer = |family, text: &str| Proof::Bearer(family, text.to_owned());
    let login = w.token(Family::Login, "user:ann").0;
    assert_eq!(w.who(bearer(Family::Login, &login)).await.unwrap(), "user:ann");
    assert_eq!(w.who(bearer(Family::Login, &w.user_key.whole())).await.unwrap(), "user:ann");
    assert_eq!(w.who(bearer(Family::Mxf, &w.room_key.whole())).await.unwrap(), "agent:scout");
    assert_eq!(w.who(bearer(Family::Mxf, &w.user_key.whole())).await.unwrap(), "user:ann");
    assert_eq!(w.who(bearer(Family::Login, &w.room_key.whole())).await, Err(Refusal::Elsewhere));
    assert_eq!(w.who(bearer(Family::Mxf, &login)).await, Err(Refusal::Elsewhere));
    assert_eq!(w.who(bearer(Family::Mxf, "")).await, Err(Refusal::Missing));
    assert_eq!(w.who(Proof::ApiKey(w.room_key.whole())).await, Err(Refusal::Elsewhere));
    assert_eq!(w.who(halves(&w.user_key)).await, Err(Refusal::Elsewhere));
    assert_eq!(w.who(bearer(Family::Login, "domain")).await, Err(Refusal::Elsewhere));
}

#[tokio::test]
async fn wrong_and_unknown_are_the_same_answer() {
    let w = world();
    for proof in [
        password("ann", "wrong"),
        password("nobody", "secret"),
        password("not a name", "secret"),
        password("", ""),
        secret("scout", "wrong"),
        secret("mute", "anything"),
        secret("nobody", "agent secret"),
        Proof::ApiKey(format!("{}:wrong", w.user_key.id)),
        Proof::ApiKey(format!("key_000000000000000000000000:{}", w.user_key.secret)),
        Proof::ApiKey("no colon".into()),
        Proof::ApiKey(format!("{}:", w.user_key.id)),
        Proof::Token(Family::Aiwm, "not.a.token".into()),
        Proof::Guest(Some("a b".into())),
        Proof::Guest(Some(String::new())),
        Proof::Guest(Some("x".repeat(65))),
    ] {
        assert_eq!(w.check(proof).await, Err(Refusal::Invalid));
    }
}

#[tokio::test]
async fn domain_keys_choose_the_workspace_and_must_fit() {
    let w = world();
    assert!(w.with(Some("domain"), halves(&w.room_key)).await.is_ok());
    assert_eq!(w.with(Some("other"), halves(&w.room_key)).await, Err(Refusal::UnknownDomain));
    let empty = Place { empty: true, ..Place::default() };
    let identifier = Identifier::new(Arc::new(empty), &[1; 32], &Auth::default()).unwrap();
    for domain_key in [None, Some("domain".to_owned())] {
        let credentials = Credentials { domain_key, proof: password("ann", "secret") };
        assert_eq!(identifier.identify(credentials, PEER, None).await, Err(Refusal::NoDomain));
    }
}

#[tokio::test]
async fn guests_take_no_registered_name() {
    let w = world();
    w.place.ask(key(&FreshKey::for_room().unwrap(), for_room("unheard-of"), None));
    for name in ["ann", "scout", "unheard-of", "system", "Admin"] {
        assert_eq!(w.who(Proof::Guest(Some(name.into()))).await, Err(Refusal::NameTaken), "{name}");
    }
    let bob = w.check(Proof::Guest(Some("bob".into()))).await.unwrap();
    let stays = || standing::of_identity(&w.place.state.lock().unwrap(), &bob);
    assert_eq!(stays(), Ok(()));
    w.place.ask(added("bob", "secret"));
    assert_eq!(stays(), Err(Refusal::NameTaken), "a guest's name ends when somebody registers it");
}

#[tokio::test]
async fn what_was_revoked_opens_nothing_and_ends_what_it_opened() {
    let w = world();
    let (token, jti) = w.token(Family::Login, "user:ann");
    let by_token = w.check(Proof::Token(Family::Login, token.clone())).await.unwrap();
    let by_key = w.check(Proof::ApiKey(w.user_key.whole())).await.unwrap();
    let stays = |identity: &Identity| standing::of_identity(&w.place.state.lock().unwrap(), identity);
    assert_eq!((stays(&by_token), stays(&by_key)), (Ok(()), Ok(())));
    w.place.ask(Command::RevokeToken(TokenRevoked {
        jti,
        expires_at: clock::now().plus(60_000),
        bearer: None,
    }));
    w.place.ask(Command::RevokeKey(w.user_key.id.clone()));
    assert_eq!(w.check(Proof::Token(Family::Login, token)).await, Err(Refusal::Revoked));
    assert_eq!(w.check(Proof::ApiKey(w.user_key.whole())).await, Err(Refusal::Revoked));
    assert_eq!((stays(&by_token), stays(&by_key)), (Err(Refusal::Revoked), Err(Refusal::Revoked)));
}

#[tokio::test]
async fn suspended_disabled_and_removed_are_told_only_to_who_proved_it() {
    let w = world();
    let token = Proof::Token(Family::Aiwm, w.token(Family::Aiwm, "agent:scout").0);
    let agent_in = w.check(token.clone()).await.unwrap();
    let user_in = w.check(password("ann", "secret")).await.unwrap();
    let key_in = w.check(halves(&w.room_key)).await.unwrap();
    let suspended = AgentChanges { suspended: Some(true), ..AgentChanges::default() };
    w.place.ask(Command::UpdateAgent(agent("scout"), suspended));
    w.place.ask(Command::ChangeUser(UserChanged {
        user: user("ann"),
        role: None,
        password: None,
        disabled: Some(true),
    }));
    let refused = Err(Refusal::Suspended);
    assert_eq!(w.who(token.clone()).await, refused);
    assert_eq!(w.who(secret("scout", "agent secret")).await, refused);
    assert_eq!(w.who(secret("scout", "wrong")).await, Err(Refusal::Invalid));
    assert_eq!(w.who(halves(&w.room_key)).await, refused);
    assert_eq!(w.who(password("ann", "secret")).await, refused);
    assert_eq!(w.who(Proof::ApiKey(w.user_key.whole())).await, refused);
    let stays = |identity: &Identity| standing::of_identity(&w.place.state.lock().unwrap(), identity);
    assert_eq!((stays(&agent_in), stays(&user_in)), (Err(Refusal::Suspended), Err(Refusal::Suspended)));
    w.place.ask(Command::RemoveAgent(agent("scout"), "gone".into()));
    assert_eq!(w.who(token).await, Err(Refusal::Gone));
    assert_eq!(stays(&agent_in), Err(Refusal::Gone));
    assert_eq!(stays(&key_in), Err(Refusal::Revoked), "a removed agent's keys end with it");
    assert_eq!(w.who(halves(&w.room_key)).await, Err(Refusal::Revoked));
}

/// As 0.1.0 made them: without an incarnation.
fn of_before(w: &World, subject: &str, at: Time) -> Proof {
    let order = TokenOrder {
        family: Family::Aiwm,
        subject: Principal::parse(subject).unwrap(),
        incarnation: Incarnation::default(),
        workspace: WorkspaceId::new("default").unwrap(),
        ttl_s: 3_600,
        claims: serde_json::Value::Null,
    };
    Proof::Token(Family::Aiwm, w.identifier.signer.issue_before(&order, at))
}

#[tokio::test]
async fn what_was_made_for_one_bearer_of_a_name_opens_nothing_for_the_next() {
    let w = world();
    let ask = |command: Command| w.place.ask(command);
    let (agent_token, _) = w.token(Family::Aiwm, "agent:scout");
    let (visitor_token, _) = w.token(Family::Aiwm, "visitor:scout/v");
    let token = |text: &str| Proof::Token(Family::Aiwm, text.to_owned());
    let [agent_in, visitor_in] = [w.check(token(&agent_token)).await, w.check(token(&visitor_token)).await];
    ask(Command::RemoveAgent(agent("scout"), "gone".into()));
    let card = AgentCard { name: "Another".into(), ..AgentCard::default() };
    ask(Command::RegisterAgent(RegisterAgent { agent: agent("scout"), card }));
    ask(Command::SetAgentSecret(agent("scout"), passwords::hash("new secret").unwrap()));
    for proof in [token(&agent_token), token(&visitor_token)] {
        assert_eq!(w.check(proof).await, Err(Refusal::Gone));
    }
    assert_eq!(w.check(halves(&w.room_key)).await, Err(Refusal::Revoked));
    assert_eq!(w.check(secret("scout", "agent secret")).await, Err(Refusal::Invalid));
    assert_eq!(w.who(secret("scout", "new secret")).await.unwrap(), "agent:scout");
    let stays = |identity: &Identity| standing::of_identity(&w.place.state.lock().unwrap(), identity);
    assert_eq!(
        (stays(&agent_in.unwrap()), stays(&visitor_in.unwrap())),
        (Err(Refusal::Gone), Err(Refusal::Gone))
    );
}

#[tokio::test]
async fn a_new_password_or_secret_ends_what_the_old_one_opened() {
    let w = world();
    let by_token = |family, who: &str| Proof::Token(family, w.token(family, who).0);
    let refresh = by_token(Family::Refresh, "user:ann");
    let login = by_token(Family::Login, "user:ann");
    let of_agent = by_token(Family::Aiwm, "agent:scout");
    let older = of_before(&w, "user:ann", clock::now().plus(-2_000));
    let ins = [
        w.check(login.clone()).await.unwrap(),
        w.check(password("ann", "secret")).await.unwrap(),
        w.check(of_agent.clone()).await.unwrap(),
        w.check(secret("scout", "agent secret")).await.unwrap(),
    ];
    let by_key = w.check(Proof::ApiKey(w.user_key.whole())).await.unwrap();
    assert!(w.check(older.clone()).await.is_ok());
    let changed = passwords::hash("other").ok();
    w.place.ask(Command::ChangeUser(UserChanged {
        user: user("ann"),
        role: None,
        password: changed,
        disabled: None,
    }));
    w.place.ask(Command::SetAgentSecret(agent("scout"), passwords::hash("other").unwrap()));
    for proof in [login, refresh, of_agent, older] {
        assert_eq!(w.check(proof).await, Err(Refusal::Revoked));
    }
    let stays = |identity: &Identity| standing::of_identity(&w.place.state.lock().unwrap(), identity);
    for identity in &ins {
        assert_eq!(stays(identity), Err(Refusal::Revoked), "{identity:?}");
    }
    assert_eq!(stays(&by_key), Ok(()), "a key is a secret of its own");
    assert!(w.check(password("ann", "other")).await.is_ok());
}

#[tokio::test]
async fn a_token_does_not_pass_to_the_next_bearer_of_a_name() {
    let w = world();
    let order = TokenOrder {
        family: Family::Aiwm,
        subject: Principal::Agent(agent("scout")),
        incarnation: Incarnation::default(),
        workspace: WorkspaceId::new("default").unwrap(),
        ttl_s: 3_600,
        claims: serde_json::Value::Null,
    };
    let early = of_before(&w, "agent:scout", clock::now().plus(-60_000));
    assert_eq!(w.who(early).await, Err(Refusal::Gone));
    let system = TokenOrder { subject: Principal::System, ..order.clone() };
    let system = w.identifier.issue(&system).unwrap().token;
    assert_eq!(w.who(Proof::Token(Family::Aiwm, system)).await, Err(Refusal::Elsewhere));
    let node = TokenOrder { subject: Principal::Node(NodeId::new("n1").unwrap()), ..order };
    let node = w.identifier.issue(&node).unwrap().token;
    assert_eq!(w.who(Proof::Token(Family::Aiwm, node)).await.unwrap(), "node:n1");
}

/// Made, rotated and removed by a wall clock that is two days ahead; the tokens are made when it is set right.
#[tokio::test]
async fn a_clock_that_was_ahead_refuses_no_token_and_lets_no_old_one_in() {
    let w = world();
    let (ahead, scout) = (clock::now().plus(2 * 24 * 3_600_000), agent("late"));
    let card = AgentCard { name: "Late".into(), ..AgentCard::default() };
    let register = Command::RegisterAgent(RegisterAgent { agent: scout.clone(), card });
    let rotate = |hash: &str| Command::SetAgentSecret(scout.clone(), hash.into());
    w.place.ask_at(ahead, register.clone());
    w.place.ask_at(ahead, rotate("one"));
    let token = || Proof::Token(Family::Aiwm, w.token(Family::Aiwm, "agent:late").0);
    let first = token();
    assert_eq!(w.who(first.clone()).await.unwrap(), "agent:late");
    w.place.ask_at(ahead, rotate("two"));
    let second = token();
    assert_eq!(w.who(first).await, Err(Refusal::Revoked));
    assert_eq!(w.who(second.clone()).await.unwrap(), "agent:late");
    w.place.ask_at(ahead, Command::RemoveAgent(scout.clone(), "gone".into()));
    w.place.ask(register);
    assert_eq!(w.who(second).await, Err(Refusal::Gone), "it was another agent's");
    assert_eq!(w.who(token()).await.unwrap(), "agent:late");
}

#[tokio::test]
async fn keys_end() {
    let w = world();
    let (ended, lasting) = (FreshKey::for_user().unwrap(), FreshKey::for_user().unwrap());
    w.place.ask(key(&ended, KeyFor::User(user("ann")), Some(clock::now().plus(-1))));
    w.place.ask(key(&lasting, for_room("unheard-of"), Some(clock::now().plus(60_000))));
    assert_eq!(w.who(Proof::ApiKey(ended.whole())).await, Err(Refusal::Expired));
    let identity = w.check(halves(&lasting)).await.unwrap();
    assert!(identity.expires_at.is_some());
    assert_eq!(
        identity.principal.to_string(),
        "agent:unheard-of",
        "the key makes the agent before it registers"
    );
}

#[tokio::test]
async fn failures_close_the_door_for_one_account_and_address() {
    let w = world();
    for _ in 0..3 {
        assert_eq!(w.who(password("ann", "wrong")).await, Err(Refusal::Invalid));
    }
    assert!(
        matches!(w.who(password("ann", "secret")).await, Err(Refusal::TooManyFailures(ms)) if ms <= 10_000)
    );
    assert_eq!(w.identifier.closed_accounts().len(), 1);
    assert!(w.who(secret("scout", "agent secret")).await.is_ok());
    let elsewhere = Credentials { domain_key: None, proof: password("ann", "secret") };
    assert!(w.identifier.identify(elsewhere, "192.0.2.9".parse().unwrap(), None).await.is_ok());
    w.identifier.forgive(PEER);
    assert!(w.who(password("ann", "secret")).await.is_ok());
}

#[tokio::test]
async fn who_guesses_a_key_closes_nothing_to_its_bearer() {
    let w = world();
    for _ in 0..20 {
        let guess = Proof::ApiKey(format!("{}:guess", w.user_key.id));
        assert_eq!(w.who(guess).await, Err(Refusal::Invalid));
    }
    assert_eq!(w.who(Proof::ApiKey(w.user_key.whole())).await.unwrap(), "user:ann");
}

#[test]
fn slow_hashes_are_not_computed_at_once() {
    let w = world();
    let slow =
        |proof| w.identifier.try_identify_now(&Credentials { domain_key: None, proof }, PEER).is_none();
    assert!(slow(password("ann", "secret")) && slow(secret("scout", "x")));
    assert!(!slow(Proof::Guest(None)) && !slow(Proof::ApiKey("x:y".into())));
    let unknown = KeyId::new("key_x").unwrap();
    assert!(w.place.state.lock().unwrap().key(&unknown).is_none());
}
