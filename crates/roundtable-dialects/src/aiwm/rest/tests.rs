//! AIWM's REST over a desk in memory.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use roundtable_core::agents::{AgentCard, AgentChanges, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::engine::{Context, Outcome, decide};
use roundtable_core::error::Error;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{AgentId, Principal, RoomId, UserId, WorkspaceId};
use roundtable_core::json::Json;
use roundtable_core::state::State;
use roundtable_core::time::{Offset, Time};
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::{Value, json};

use super::handle;
use crate::figures::Figures;
use crate::rest::{Desk, IssuedToken, Request, Response, TokenOrder};
use crate::session::{Ask, Credential, Credentials, Identity, Proof, Refusal, Token};

/// Secrets are kept as they are, tokens are the principal's text.
struct Table {
    log: Mutex<(Arc<State>, Vec<Record>)>,
    orders: Mutex<Vec<TokenOrder>>,
    blocked: Mutex<bool>,
}

fn identity(principal: Principal) -> Identity {
    let workspace = WorkspaceId::new("default").unwrap();
    Identity { workspace, principal, credential: Credential::Secret, expires_at: None }
}

impl Table {
    fn new() -> Self {
        let table = Self { log: Mutex::default(), orders: Mutex::default(), blocked: Mutex::default() };
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
        let mut log = self.log.lock().unwrap();
        let mut state = (*log.0).clone();
        let context = Context {
            now: self.now(),
            actor: who.clone(),
            by: who.clone(),
            connection: None,
            random: state.head.0,
            client: ask.client.clone(),
        };
        let decision = decide(&state, &ask.command, &context)?;
        let outcome = decision.result();
        for (room, event) in decision.events {
            let record = Record {
                offset: state.head.next(),
                room_seq: room.as_ref().map(|room| state.next_in_room(room)),
                at: self.now(),
                actor: who.clone(),
                room,
                client: ask.client.clone(),
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
            Proof::Token(_, token) => Principal::parse(&token).map(identity).map_err(|_| Refusal::Invalid),
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
        Ok(IssuedToken { token, jti: "j".into(), expires_at: self.now() })
    }

    async fn ask(&self, who: &Identity, ask: Ask) -> Result<(Outcome, Arc<State>), Error> {
        self.run(&who.principal, &ask)
    }

    async fn page(
        &self,
        _who: &Identity,
        room: &RoomId,
        before: Option<Offset>,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        let log = self.log.lock().unwrap();
        let said = |r: &&Record| {
            r.room.as_ref() == Some(room)
                && matches!(r.event, Event::MessagePosted(_))
                && before.is_none_or(|before| r.offset < before)
        };
        let page: Vec<Record> = log.1.iter().filter(said).cloned().collect();
        Ok(page[page.len().saturating_sub(limit as usize)..].to_vec())
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
        ("mute", r#"{"secret":"x"}"#, 401, "Agent has no secret configured"),
        ("a2", r#"{"secret":"s3cret"}"#, 403, "Agent is suspended"),
        ("a2", r#"{"secret":"x"}"#, 401, "Invalid credentials"),
        ("nobody", r#"{"secret":"x"}"#, 404, "Agent with ID nobody not found"),
        ("no%20body", r#"{"secret":"x"}"#, 404, "Agent with ID no body not found"),
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
fn other_paths_are_told_apart() {
    let table = Table::new();
    assert_eq!(table.call("GET", "/dev/aiwm/ws/health", None, "").1["uptime"], 10);
    assert_eq!(table.call("GET", "/dev/aiwm/ws", None, "").1["service"], "aiwm");
    assert_eq!(table.call("GET", "/dev/aiwm/nothing", None, "").0, 404);
    assert_eq!(table.call("GET", "/dev/aiwm/agents/a1/config", Some("user:ann"), "").1["accessToken"], "");
    for path in [
        "/dev/aiwm/chat",
        "/dev/aiwm/chat/socket.io/",
        "/dev/aiwm/ws/socket.io/",
        "/api/agents",
        "/dev/aiwmx",
    ] {
        let request = Request {
            method: "GET",
            path,
            query: "",
            body: b"",
            authorization: None,
            api_key: None,
            request_id: "r",
            peer: IpAddr::from([127, 0, 0, 1]),
            anonymous: false,
        };
        assert!(now_or_never(handle(&request, &table)).is_none(), "{path}");
    }
}
