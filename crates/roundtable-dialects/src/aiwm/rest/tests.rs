//! AIWM's REST over a desk in memory.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use roundtable_core::agents::{AgentCard, AgentChanges, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::engine::{Context, Outcome, decide};
use roundtable_core::error::Error;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{AgentId, MessageId, Principal, RoomId, UserId, WorkspaceId};
use roundtable_core::json::Json;
use roundtable_core::repeats::{self, Claim, Firsts};
use roundtable_core::state::State;
use roundtable_core::time::Time;
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::{Value, json};

use super::handle;
use crate::figures::Figures;
use crate::rest::{Desk, IssuedToken, Page, PageOf, Request, Response, TokenOrder};
use crate::session::{Ask, Credential, Credentials, Identity, Proof, Refusal, Token};

/// Secrets are kept as they are, tokens are the principal's text.
struct Table {
    log: Mutex<(Arc<State>, Vec<Record>)>,
    firsts: Mutex<Firsts>,
    orders: Mutex<Vec<TokenOrder>>,
    blocked: Mutex<bool>,
}

fn identity(principal: Principal) -> Identity {
    let workspace = WorkspaceId::new("default").unwrap();
    let incarnation = Default::default();
    Identity { workspace, principal, credential: Credential::Secret, incarnation, expires_at: None }
}

impl Table {
    fn new() -> Self {
        let table = Self {
            log: Mutex::default(),
            firsts: Mutex::default(),
            orders: Mutex::default(),
            blocked: Mutex::default(),
        };
        let config = r#"{"instruction":{"id":"i","systemPrompt":"Be kind.","guidelines":["g"]},"deployment":{"id":"d"}}"#;
        for (id, config) in [("a1", None), ("a2", Some(Json::parse(config).unwrap())), ("mute", None)] {
            let agent = AgentId::new(id).unwrap();
            let card = AgentCard { name: id.into(), config, ..AgentCard::default() };
            table.system(Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card }));
            if id != "mute" {
                table.system(Command::SetAgentSecret(agent, "s3cret".into()));
            }
        }
        for (user, role) in [("ann", UserRole::Viewer), ("olga", UserRole::Owner)] {
            let user = UserId::new(user).unwrap();
            table.system(Command::AddUser(UserAdded { user, role, password: Some("pw".into()) }));
        }
        table
    }

    fn system(&self, command: Command) {
        self.run(&Principal::System, &Ask::new(Token(0), command)).unwrap();
    }

    fn run(&self, who: &Principal, ask: &Ask) -> Result<(Outcome, Arc<State>), Error> {
        let (mut log, mut firsts) = (self.log.lock().unwrap(), self.firsts.lock().unwrap());
        let mut state = (*log.0).clone();
        let context = Context {
            now: self.now(),
            at: self.now(),
            actor: who.clone(),
            by: who.clone(),
            connection: None,
            random: state.head.0,
            client: ask.client.clone().map(|id| Claim::of((who, id), &ask.command, &firsts)),
        };
        let decision = decide(&state, &ask.command, &context)?;
        let outcome = decision.result();
        let mut client = repeats::note(&mut firsts, &state, &context, &decision);
        for (room, event) in decision.events {
            let record = Record {
                offset: state.head.next(),
                room_seq: room.as_ref().map(|room| state.next_in_room(room)),
                at: self.now(),
                t: self.now(),
                actor: who.clone(),
                room,
                client: client.take(),
                event,
            };
            state.apply(&record);
            log.1.push(record);
        }
        log.0 = Arc::new(state);
        Ok((outcome, log.0.clone()))
    }

    fn call(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, Value, Response) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let header = token.map(|token| format!("Bearer {token}"));
        let request = Request {
            method,
            path,
            query,
            body: body.as_bytes(),
            authorization: header.as_deref(),
            api_key: None,
            channel_key: None,
            request_id: "r-1",
            peer: IpAddr::from([127, 0, 0, 1]),
            anonymous: false,
        };
        let response = now_or_never(handle(&request, self)).expect("one of its paths");
        assert!(response.headers.contains(&("x-correlation-id", "r-1".to_owned())));
        (response.status, serde_json::from_str(&response.body).unwrap_or_default(), response)
    }
}

/// The desk in memory never waits.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the desk in memory waits"),
    }
}

impl Desk for Table {
    fn now(&self) -> Time {
        Time(1_767_225_600_045)
    }

    fn random(&self) -> u128 {
        77
    }

    fn figures(&self) -> Arc<Figures> {
        Arc::new(Figures { started_at: Time(1_767_225_590_045), ..Figures::default() })
    }

    fn default_workspace(&self) -> WorkspaceId {
        WorkspaceId::new("default").unwrap()
    }

    fn state(&self, _workspace: &WorkspaceId) -> Option<Arc<State>> {
        Some(self.log.lock().unwrap().0.clone())
    }

    async fn identify(&self, credentials: Credentials, _peer: IpAddr) -> Result<Identity, Refusal> {
        if *self.blocked.lock().unwrap() {
            return Err(Refusal::TooManyFailures(61_500));
        }
        let state = self.log.lock().unwrap().0.clone();
        match credentials.proof {
            Proof::Token(_, token) => {
                let credential = Credential::Token { jti: format!("of-{token}") };
                let found = Principal::parse(&token).map(identity).map_err(|_| Refusal::Invalid)?;
                Ok(Identity { credential, expires_at: Some(self.now()), ..found })
            }
            Proof::AgentSecret { agent, secret } => {
                let known = AgentId::new(&agent).ok().and_then(|id| state.agent(&id));
                let known = known.filter(|agent| agent.secret.as_deref() == Some(&secret));
                let known = known.ok_or(Refusal::Invalid)?;
                if known.suspended {
                    Err(Refusal::Suspended)
                } else {
                    Ok(identity(Principal::Agent(known.id.clone())))
                }
            }
            Proof::Password { username, password } => {
                let user = UserId::new(&username).ok().and_then(|id| state.user(&id));
                let user = user.filter(|user| user.password.as_deref() == Some(&password));
                user.map(|user| identity(Principal::User(user.id.clone()))).ok_or(Refusal::Invalid)
            }
            _ => Err(Refusal::Invalid),
        }
    }

    async fn hash_secret(&self, secret: String) -> Result<String, Error> {
        Ok(secret)
    }

    fn issue(&self, order: TokenOrder) -> Result<IssuedToken, Error> {
        let token = order.subject.to_string();
        self.orders.lock().unwrap().push(order);
        Ok(IssuedToken { token, jti: "j".into(), expires_at: self.now().plus(1000) })
    }

    async fn ask(&self, who: &Identity, ask: Ask) -> Result<(Outcome, Arc<State>), Error> {
        self.run(&who.principal, &ask)
    }

    async fn page(&self, _who: &Identity, room: &RoomId, page: PageOf) -> Result<Page, Error> {
        let log = self.log.lock().unwrap();
        let said = |r: &&Record| {
            r.room.as_ref() == Some(room)
                && matches!(r.event, Event::MessagePosted(_))
                && page.before.is_none_or(|before| r.offset < before)
                && !log.0.is_deleted(r)
        };
        Ok(page.of(log.1.iter().filter(said).cloned().collect()))
    }

    async fn find(&self, who: &Identity, message: &MessageId) -> Result<Option<Record>, Error> {
        let log = self.log.lock().unwrap();
        let may_read = |r: &Record| {
            let room = log.0.room(r.room.as_ref().unwrap()).unwrap();
            roundtable_core::access::may_read_room(&log.0, room, &who.principal)
        };
        let wanted = |r: &&Record| matches!(&r.event, Event::MessagePosted(said) if said.id == *message);
        Ok(log.1.iter().find(wanted).filter(|r| may_read(r) && !log.0.is_deleted(r)).cloned())
    }
}

const CONNECT: &str = "/dev/aiwm/agents/a1/connect";

#[test]
fn a_secret_gets_a_token_and_everything_to_begin_with() {
    let table = Table::new();
    let (status, body, _) = table.call("POST", CONNECT, None, r#"{"secret":"s3cret"}"#);
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({
            "accessToken": "agent:a1", "expiresIn": 86400, "refreshToken": null, "refreshExpiresIn": 0,
            "tokenType": "bearer",
            "instruction": {"id": "", "systemPrompt": "No instruction configured for this agent.", "guidelines": []},
            "settings": {}, "mcpServers": {},
        })
    );
    let order = table.orders.lock().unwrap().pop().unwrap();
    assert_eq!(order.ttl_s, 86_400);
    assert_eq!(
        order.claims,
        json!({
            "username": "agent:a1", "status": "active", "roles": ["organization.viewer"], "orgId": "default",
            "groupId": "", "agentId": "a1", "userId": "", "type": "agent",
        })
    );
    let (_, body, _) = table.call("POST", "/dev/aiwm/agents/a2/connect", None, r#"{"secret":"s3cret"}"#);
    assert_eq!(body["instruction"]["systemPrompt"], "Be kind.");
    assert_eq!(body["deployment"], json!({"id": "d"}));
}

#[test]
fn each_failure_of_connect_has_its_status_and_text() {
    let table = Table::new();
    let suspended = AgentChanges { suspended: Some(true), ..AgentChanges::default() };
    table.system(Command::UpdateAgent(AgentId::new("a2").unwrap(), suspended));
    for (agent, sent, status, message) in [
        ("a1", "", 400, "the body must be a JSON object"),
        ("a1", "{}", 400, "secret is required and must be a string"),
        ("a1", r#"{"secret":""}"#, 400, "secret is required and must be a string"),
        ("a1", r#"{"secret":7}"#, 400, "secret is required and must be a string"),
        ("a1", r#"["secret"]"#, 400, "the body must be a JSON object"),
        ("a1", r#"{"secret":"x"}"#, 401, "Invalid credentials"),
        ("mute", r#"{"secret":"x"}"#, 401, "Invalid credentials"),
        ("a2", r#"{"secret":"s3cret"}"#, 403, "Agent is suspended"),
        ("a2", r#"{"secret":"x"}"#, 401, "Invalid credentials"),
        ("nobody", r#"{"secret":"x"}"#, 401, "Invalid credentials"),
        ("no%20body", r#"{"secret":"x"}"#, 401, "Invalid credentials"),
    ] {
        let path = format!("/dev/aiwm/agents/{agent}/connect");
        let (got, body, _) = table.call("POST", &path, None, sent);
        assert_eq!((got, &body["message"]), (status, &json!(message)), "{agent} {sent}");
        assert_eq!((&body["statusCode"], &body["path"]), (&json!(status), &json!(path)));
        assert_eq!(body["correlationId"], "r-1");
        assert_eq!(body["timestamp"], "2026-01-01T00:00:00.045Z");
        assert_eq!(body.get("errors").is_some(), status == 400);
    }
    *table.blocked.lock().unwrap() = true;
    let (status, _, response) = table.call("POST", CONNECT, None, r#"{"secret":"s3cret"}"#);
    assert_eq!(status, 429);
    assert!(response.headers.contains(&("Retry-After", "62".to_owned())));
}

#[test]
fn users_log_in_and_are_told_their_roles() {
    let table = Table::new();
    let login = |body: &str| table.call("POST", "/dev/aiwm/auth/login", None, body);
    let (status, body, _) = login(r#"{"username":"olga","password":"pw"}"#);
    assert_eq!(status, 200);
    assert_eq!((&body["tokenType"], &body["expiresIn"]), (&json!("bearer"), &json!(86400)));
    assert_eq!(
        body["user"],
        json!({"id": "olga", "username": "olga", "roles": ["organization.owner"], "orgId": "default"})
    );
    let order = table.orders.lock().unwrap().pop().unwrap();
    assert!(order.claims.get("type").is_none() && order.claims["agentId"] == "");
    assert_eq!(login(r#"{"username":"olga","password":"no"}"#).1["message"], "Invalid credentials");
    assert_eq!(login(r#"{"username":"nobody","password":"no"}"#).0, 401);
    assert_eq!(login(r#"{"username":"olga"}"#).1["errors"], json!(["password is required"]));
}

#[test]
fn a_heartbeat_is_the_agents_own_and_keeps_nobody_here() {
    let table = Table::new();
    let beat =
        |token: Option<&str>, body: &str| table.call("POST", "/dev/aiwm/agents/a1/heartbeat", token, body);
    assert_eq!(beat(None, "{}").1["message"], "Missing token (401)");
    assert_eq!(beat(Some("agent:a1"), r#"{"status":"lazy"}"#).0, 400);
    assert_eq!(beat(Some("agent:a2"), r#"{"status":"busy"}"#).0, 403);
    assert_eq!(beat(Some("agent:a1"), r#"{"status":"busy"}"#).1, json!({"success": true}));
    let state = table.state(&table.default_workspace()).unwrap();
    let agent = state.agent(&AgentId::new("a1").unwrap()).unwrap();
    assert_eq!(agent.status, roundtable_core::agents::AgentStatus::Offline);
}

#[test]
fn disconnecting_ends_what_the_token_opens() {
    let table = Table::new();
    let path = "/dev/aiwm/agents/a1/disconnect";
    assert_eq!(table.call("POST", path, Some("agent:a2"), "").0, 403);
    assert_eq!(
        table.call("POST", path, Some("agent:a1"), r#"{"reason":"done"}"#).1,
        json!({"success": true})
    );
    assert!(table.state(&table.default_workspace()).unwrap().token_revoked("of-agent:a1"));
}

#[test]
fn other_paths_are_told_apart() {
    let table = Table::new();
    assert_eq!(table.call("GET", "/dev/aiwm/ws/health", None, "").1["uptime"], 10);
    assert_eq!(table.call("GET", "/dev/aiwm/ws", None, "").1["service"], "aiwm");
    assert_eq!(table.call("GET", "/dev/aiwm/nothing", None, "").0, 404);
    assert_eq!(table.call("GET", "/dev/aiwm/agents/a1/config", Some("user:ann"), "").1["accessToken"], "");
    for path in ["/dev/aiwm/chat/socket.io/", "/dev/aiwm/ws/socket.io/", "/api/agents", "/dev/aiwmx"] {
        let request = Request {
            method: "GET",
            path,
            query: "",
            body: b"",
            authorization: None,
            api_key: None,
            channel_key: None,
            request_id: "r",
            peer: IpAddr::from([127, 0, 0, 1]),
            anonymous: false,
        };
        assert!(now_or_never(handle(&request, &table)).is_none(), "{path}");
    }
}

#[test]
fn agents_are_made_changed_listed_and_removed_and_never_show_their_secret() {
    let table = Table::new();
    let agents = "/dev/aiwm/agents";
    let made = r#"{"name":"Scribe","description":"writes","status":"active","secret":"x","type":"managed","tags":["t"],
        "settings":{"a":1}}"#;
    let (status, agent, response) = table.call("POST", agents, Some("user:ann"), made);
    assert_eq!(status, 201);
    assert!(!response.body.contains("secret"));
    let id = agent["_id"].as_str().unwrap().to_owned();
    assert_eq!((id.len(), &agent["status"], &agent["type"]), (24, &json!("active"), &json!("managed")));
    assert_eq!((&agent["tags"], &agent["settings"]), (&json!(["t"]), &json!({"a": 1})));
    let path = format!("{agents}/{id}");
    let change = r#"{"status":"busy","settings":{"b":2}}"#;
    assert_eq!(table.call("PUT", &path, Some("agent:a2"), change).0, 403);
    let (status, changed, _) = table.call("PUT", &path, Some("user:ann"), change);
    assert_eq!((status, &changed["status"], &changed["settings"]), (200, &json!("busy"), &json!({"b": 2})));
    assert_eq!(changed["tags"], json!(["t"]));
    let suspend = r#"{"status":"suspended"}"#;
    assert_eq!(table.call("PUT", &path, Some("user:ann"), suspend).0, 403);
    assert_eq!(table.call("PUT", &path, Some("user:olga"), suspend).1["status"], "suspended");
    assert_eq!(table.call("PUT", &path, Some("user:olga"), r#"{"status":"active"}"#).1["status"], "active");

    let (_, list, _) =
        table.call("GET", &format!("{agents}?limit=2&sort=%7B%22name%22%3A-1%7D"), Some("user:ann"), "");
    assert_eq!(list["pagination"], json!({"page": 1, "limit": 2, "total": 4}));
    assert_eq!((&list["data"][0]["name"], &list["data"][1]["name"]), (&json!("mute"), &json!("a2")));
    let filtered = format!("{agents}?filter=%7B%22tags%22%3A%22t%22%7D");
    assert_eq!(table.call("GET", &filtered, Some("user:ann"), "").1["statistics"], json!({"total": 1}));
    assert_eq!(table.call("GET", &format!("{agents}?page=0"), Some("user:ann"), "").0, 400);
    assert_eq!(table.call("GET", &format!("{agents}?filter=x"), Some("user:ann"), "").0, 400);

    let (_, body, _) =
        table.call("POST", agents, Some("user:ann"), r#"{"name":"x","status":"sleepy","type":"odd"}"#);
    assert_eq!(
        body["errors"],
        json!([
            "description is required",
            "status must be one of active, inactive, busy, suspended",
            "type must be one of managed, autonomous"
        ])
    );
    let gone = json!({"message": "Agent deleted successfully"});
    assert_eq!(table.call("DELETE", &path, Some("user:ann"), "").1, gone);
    assert_eq!(
        table.call("GET", &path, Some("user:ann"), "").1["message"],
        format!("Agent with ID {id} not found")
    );
}

#[test]
fn new_credentials_and_visitors_tokens_are_for_owners() {
    let table = Table::new();
    let renew = "/dev/aiwm/agents/a1/credentials/regenerate";
    assert_eq!(table.call("POST", renew, Some("user:ann"), "").0, 403);
    let (_, body, _) = table.call("POST", renew, Some("user:olga"), "");
    let secret = body["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 32);
    assert!(body["envConfig"].as_str().unwrap().contains(secret));
    let sent = json!({ "secret": secret }).to_string();
    assert_eq!(table.call("POST", CONNECT, None, &sent).0, 200);
    assert_eq!(table.call("POST", CONNECT, None, r#"{"secret":"s3cret"}"#).0, 401);

    let visit = "/dev/aiwm/agents/a1/anonymous-token";
    assert_eq!(table.call("POST", visit, Some("user:ann"), "").0, 403);
    let (_, body, _) = table.call("POST", visit, Some("user:olga"), r#"{"anonymousId":"v1","expiresIn":60}"#);
    assert_eq!((&body["anonymousId"], &body["expiresIn"]), (&json!("v1"), &json!(60)));
    let order = table.orders.lock().unwrap().pop().unwrap();
    assert_eq!(order.subject.to_string(), "visitor:a1/v1");
    let claims = json!({"type": "anonymous", "anonymousId": "v1", "agentId": "a1", "orgId": "default"});
    assert_eq!((order.ttl_s, order.claims), (60, claims));
    assert_eq!(table.call("POST", visit, Some("user:olga"), r#"{"expiresIn":0}"#).0, 400);
    let list = |who: &str| table.call("GET", "/dev/aiwm/agents/a1/anonymous-tokens", Some(who), "");
    assert_eq!(list("user:ann").0, 403);
    let (_, before, response) = list("user:olga");
    assert!(!response.body.contains("visitor:a1/v1"), "no token values");
    // What the token opens is its own conversation; of agents it learns nothing, and it changes none.
    let visitor = Some("visitor:a1/v1");
    for (method, path) in [
        ("GET", "/dev/aiwm/agents"),
        ("GET", "/dev/aiwm/agents/a1"),
        ("GET", "/dev/aiwm/agents/a1/config"),
        ("PUT", "/dev/aiwm/agents/a1"),
        ("DELETE", "/dev/aiwm/agents/a1"),
        ("POST", "/dev/aiwm/agents/a1/anonymous-token"),
    ] {
        assert_eq!(table.call(method, path, visitor, "{}").0, 403, "{method} {path}");
    }
    let lists = table.call("GET", "/dev/aiwm/conversations", visitor, "").1;
    assert_eq!(lists["statistics"], json!({"total": 0}));
    let body = r#"{"title":"Plans","agentId":"a1"}"#;
    assert_eq!(table.call("POST", "/dev/aiwm/conversations", visitor, body).0, 403);
    assert_eq!((&before["total"], &before["items"][0]["isActive"]), (&json!(1), &json!(true)));
    let token =
        format!("/dev/aiwm/agents/a1/anonymous-tokens/{}", before["items"][0]["tokenId"].as_str().unwrap());
    assert_eq!(table.call("DELETE", &token, Some("user:ann"), "").0, 403);
    assert_eq!(table.call("DELETE", &token, Some("user:olga"), "").0, 204);
    assert_eq!(table.call("DELETE", &format!("{token}x"), Some("user:olga"), "").0, 404);
    let (_, after, _) = list("user:olga");
    assert_eq!(
        (&after["items"][0]["isActive"], after["items"][0]["revokedAt"].is_string()),
        (&json!(false), true)
    );
    assert!(table.state(&table.default_workspace()).unwrap().token_revoked("j"));
}

/// A conversation of ann with a1; its path.
fn conversation(table: &Table) -> String {
    let body = r#"{"title":"Plans","agentId":"a1","tags":["x"]}"#;
    let (status, made, _) = table.call("POST", "/dev/aiwm/conversations", Some("user:ann"), body);
    assert_eq!(status, 201);
    let kinds: Vec<&Value> = made["participants"].as_array().unwrap().iter().map(|p| &p["type"]).collect();
    assert_eq!(kinds, ["agent", "user"]);
    assert_eq!(
        (&made["title"], &made["agentId"], &made["status"]),
        (&json!("Plans"), &json!("a1"), &json!("active"))
    );
    made["_id"].as_str().unwrap().to_owned()
}

#[test]
fn conversations_are_for_their_participants_and_for_owners() {
    let table = Table::new();
    let id = conversation(&table);
    let path = format!("/dev/aiwm/conversations/{id}");
    for (who, status) in
        [("user:ann", 200), ("agent:a1", 200), ("user:olga", 200), ("agent:a2", 404), ("user:bob", 404)]
    {
        assert_eq!(table.call("GET", &path, Some(who), "").0, status, "{who}");
        let total =
            table.call("GET", "/dev/aiwm/conversations", Some(who), "").1["pagination"]["total"].clone();
        assert_eq!(total, json!(u8::from(status == 200)), "{who}");
    }
    let unknown =
        table.call("GET", "/dev/aiwm/conversations/nowhere", Some("agent:a2"), "").1["message"].clone();
    assert_eq!(unknown, "Conversation with ID nowhere not found");
    let invite = |body: &str| table.call("POST", &format!("{path}/participants"), Some("user:ann"), body);
    let (_, with, _) = invite(r#"{"type":"agent","participantId":"a2"}"#);
    assert_eq!(with["participants"].as_array().unwrap().len(), 3);
    assert_eq!(invite(r#"{"type":"agent","participantId":"a2"}"#).1["participants"], with["participants"]);
    assert_eq!(invite(r#"{"type":"agent","participantId":"none"}"#).0, 404);
    assert_eq!(invite(r#"{"type":"robot","participantId":"a2"}"#).0, 400);
    let (status, without, _) =
        table.call("DELETE", &format!("{path}/participants/agent/a2"), Some("user:ann"), "");
    assert_eq!((status, without["participants"].as_array().unwrap().len()), (200, 2));

    let mine = "/dev/aiwm/conversations/my-conversations";
    assert_eq!(table.call("GET", mine, Some("user:ann"), "").1.as_array().unwrap().len(), 1);
    assert_eq!(table.call("GET", mine, Some("user:olga"), "").1, json!([]));
    assert_eq!(table.call("GET", &format!("{mine}?status=odd"), Some("user:ann"), "").0, 400);
    let of_agent = "/dev/aiwm/conversations/agent/a1?status=active";
    assert_eq!(table.call("GET", of_agent, Some("user:olga"), "").1.as_array().unwrap().len(), 1);
    let change = r#"{"title":"New","tags":["y","z"]}"#;
    let (_, changed, _) = table.call("PUT", &path, Some("user:ann"), change);
    assert_eq!((&changed["title"], &changed["tags"]), (&json!("New"), &json!(["y", "z"])));
    assert_eq!(table.call("PUT", &path, Some("agent:a1"), change).0, 403);
    assert_eq!(table.call("POST", &format!("{path}/archive"), Some("user:ann"), "").1["status"], "archived");
    let (status, _, response) = table.call("DELETE", &path, Some("user:ann"), "");
    assert_eq!((status, response.body.as_str()), (204, ""));
    assert_eq!(table.call("GET", &path, Some("user:ann"), "").0, 404);
}

#[test]
fn messages_are_said_paged_searched_and_counted() {
    let table = Table::new();
    let id = conversation(&table);
    let say = |who: &str, body: Value| {
        let mut body = body;
        body["conversationId"] = id.as_str().into();
        table.call("POST", "/dev/aiwm/messages", Some(who), &body.to_string())
    };
    let (status, first, _) = say("user:ann", json!({"role": "user", "content": "What is 2.5*2? Tell me."}));
    assert_eq!((status, &first["participantId"], &first["type"]), (201, &json!("ann"), &json!("text")));
    let answer = json!({
        "role": "assistant", "content": "FIVE", "parentId": first["_id"], "attachments": ["https://a/b"],
        "usage": {"promptTokens": 1, "completionTokens": 2, "totalTokens": 3},
    });
    assert_eq!(say("agent:a1", answer).0, 201);
    for n in 0..3 {
        say("user:ann", json!({"role": "user", "content": format!("more {n}")}));
    }
    assert_eq!(say("user:ann", json!({"role": "assistant", "content": "x"})).0, 403);
    assert_eq!(
        say("user:ann", json!({"role": "user"})).1["message"],
        "Validation error: content is required"
    );
    assert_eq!(say("agent:a2", json!({"role": "user", "content": "x"})).0, 404);
    assert_eq!(say("user:ann", json!({"role": "user", "content": "x", "parentId": "f".repeat(24)})).0, 400);
    let bare = r#"{"role":"user","content":"x"}"#;
    assert_eq!(table.call("POST", "/dev/aiwm/messages", Some("user:ann"), bare).0, 400);

    let get = |rest: &str| {
        table.call("GET", &format!("/dev/aiwm/messages/conversation/{id}{rest}"), Some("user:ann"), "").1
    };
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap().to_owned()).collect()
    };
    let page = get("?page=2&limit=2");
    assert_eq!(
        (&page["total"], texts(&page["data"])),
        (&json!(5), vec!["more 0".to_owned(), "more 1".into()])
    );
    assert_eq!(texts(&get("?page=3&limit=2")["data"]), ["more 2"]);
    assert_eq!(get("?page=9&limit=2")["data"], json!([]));
    assert_eq!(texts(&get("/last/2")), ["more 1", "more 2"]);
    assert_eq!(texts(&get("/role/assistant")), ["FIVE"]);
    assert_eq!(texts(&get("/attachments")), ["FIVE"]);
    assert_eq!(texts(&get("/search?q=2.5*2")), ["What is 2.5*2? Tell me."], "taken literally");
    assert_eq!(texts(&get("/search?q=five")), ["FIVE"]);
    assert_eq!(get("/search")["statusCode"], 400);
    assert_eq!(
        get("/statistics"),
        json!({
            "total": 5, "byRole": {"assistant": 1, "user": 4}, "byType": {"text": 5}, "totalTokens": 3,
            "withAttachments": 1,
        })
    );
    let one = first["_id"].as_str().unwrap();
    let by = |path: &str, who: &str| table.call("GET", &format!("/dev/aiwm/messages/{path}"), Some(who), "");
    assert_eq!(by(one, "user:ann").1, first);
    assert_eq!(by(one, "agent:a2").0, 404);
    assert_eq!(texts(&by(&format!("thread/{one}"), "user:ann").1), ["What is 2.5*2? Tell me.", "FIVE"]);
    let path = format!("/dev/aiwm/conversations/{id}/summary");
    let summary = table.call("POST", &path, Some("user:ann"), "").1["summary"].clone();
    assert!(
        summary.as_str().unwrap().starts_with("5 messages. The newest:\nann: What is 2.5*2?\n"),
        "{summary}"
    );
    let after = table.call("GET", &format!("/dev/aiwm/conversations/{id}"), Some("user:ann"), "").1;
    assert_eq!((&after["contextSummary"], &after["totalMessages"]), (&summary, &json!(5)));
    assert_eq!(after["lastMessage"]["content"], "more 2");
}

#[test]
fn a_message_is_taken_back_by_its_author_and_by_owners() {
    let table = Table::new();
    let id = conversation(&table);
    let say = |who: &str, role: &str| {
        let body = json!({"role": role, "content": "x", "conversationId": id}).to_string();
        let said = table.call("POST", "/dev/aiwm/messages", Some(who), &body).1;
        format!("/dev/aiwm/messages/{}", said["_id"].as_str().unwrap())
    };
    let (anns, agents) = (say("user:ann", "user"), say("agent:a1", "assistant"));
    let delete = |path: &str, who: &str| table.call("DELETE", path, Some(who), "").0;
    assert_eq!(delete(&anns, "agent:a2"), 404, "who may not read it does not learn that it is there");
    assert_eq!(delete(&agents, "user:ann"), 403);
    assert_eq!(delete(&anns, "user:ann"), 204);
    assert_eq!(delete(&anns, "user:ann"), 404);
    let last = || table.call("GET", &format!("/dev/aiwm/conversations/{id}"), Some("user:ann"), "").1;
    assert_eq!(last()["lastMessage"]["content"], "x");
    assert_eq!(delete(&agents, "user:olga"), 204);
    assert_eq!((&last()["lastMessage"], &last()["totalMessages"]), (&Value::Null, &json!(0)));
    assert_eq!(table.call("GET", &anns, Some("user:ann"), "").0, 404);
    let page = table.call("GET", &format!("/dev/aiwm/messages/conversation/{id}"), Some("user:ann"), "").1;
    assert_eq!((&page["total"], &page["data"]), (&json!(0), &json!([])));
}
