//! The login routes over a desk in memory: tokens with their claims in the open, so that what they say can be seen.

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use roundtable_core::command::Command;
use roundtable_core::engine::{Context, Outcome, decide};
use roundtable_core::error::Error;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{MessageId, Principal, RoomId, UserId, WorkspaceId};
use roundtable_core::json::Json;
use roundtable_core::messages::{Content, Message, MessageKind, Role};
use roundtable_core::state::State;
use roundtable_core::time::{Offset, Time};
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::{Value, json};

use super::handle;
use crate::figures::Figures;
use crate::rest::{Desk, IssuedToken, Page, PageOf, Request, TokenOrder};
use crate::session::{Ask, Credential, Credentials, Identity, Proof, Refusal, Token};

struct Table {
    state: Mutex<Arc<State>>,
    issued: Mutex<u32>,
}

impl Table {
    fn new() -> Self {
        let table = Self { state: Mutex::default(), issued: Mutex::new(0) };
        let user = UserAdded {
            user: UserId::new("ann").unwrap(),
            role: UserRole::Owner,
            password: Some("pass".into()),
        };
        table.run(&Principal::System, &Ask::new(Token(0), Command::AddUser(user))).unwrap();
        table
    }

    fn run(&self, who: &Principal, ask: &Ask) -> Result<(Outcome, Arc<State>), Error> {
        let mut shared = self.state.lock().unwrap();
        let mut state = (**shared).clone();
        let ctx = Context {
            now: self.now(),
            at: self.now(),
            actor: who.clone(),
            by: who.clone(),
            connection: None,
            random: 0,
            client: None,
        };
        let decision = decide(&state, &ask.command, &ctx)?;
        let outcome = decision.result();
        for (room, event) in decision.events {
            state.apply(&Record {
                offset: state.head.next(),
                room_seq: None,
                at: self.now(),
                t: self.now(),
                actor: who.clone(),
                room,
                client: None,
                event,
            });
        }
        *shared = Arc::new(state);
        Ok((outcome, shared.clone()))
    }

    fn call(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let header = token.map(|token| format!("Bearer {token}"));
        let body = body.to_string();
        let request = Request {
            method,
            path,
            query: "",
            body: body.as_bytes(),
            authorization: header.as_deref(),
            api_key: None,
            channel_key: None,
            request_id: "r-1",
            peer: IpAddr::from([127, 0, 0, 1]),
            anonymous: false,
        };
        let response = now_or_never(handle(&request, self)).expect("one of its paths");
        (response.status, serde_json::from_str(&response.body).unwrap())
    }

    fn login(&self) -> (String, String) {
        let (status, body) =
            self.call("POST", "/api/auth/login", None, &json!({"username": "ann", "password": "pass"}));
        assert_eq!(status, 200, "{body}");
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (text("token"), text("refresh_token"))
    }

    fn refresh(&self, token: &str, rotate: bool) -> (u16, Value) {
        self.call("POST", "/api/auth/refresh", None, &json!({"refresh_token": token, "rotate": rotate}))
    }

    fn me(&self, token: &str) -> u16 {
        self.call("GET", "/api/auth/me", Some(token), &Value::Null).0
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
        Time(1_767_225_600_000)
    }

    fn random(&self) -> u128 {
        let mut issued = self.issued.lock().unwrap();
        *issued += 1;
        u128::from(*issued)
    }

    fn figures(&self) -> Arc<Figures> {
        Arc::default()
    }

    fn default_workspace(&self) -> WorkspaceId {
        WorkspaceId::new("default").unwrap()
    }

    fn state(&self, _workspace: &WorkspaceId) -> Option<Arc<State>> {
        Some(self.state.lock().unwrap().clone())
    }

    async fn identify(&self, credentials: Credentials, _peer: IpAddr) -> Result<Identity, Refusal> {
        let state = self.state.lock().unwrap().clone();
        let (family, token) = match credentials.proof {
            Proof::Token(family, token) | Proof::Bearer(family, token) => (family, token),
            Proof::Password { username, .. } if username == "busy" => {
                return Err(Refusal::TooManyFailures(61_500));
            }
            Proof::Password { username, password } => {
                let user = UserId::new(&username).ok().and_then(|id| state.user(&id).cloned());
                let user = user.filter(|user| user.password.as_deref() == Some(&password));
                let user = user.ok_or(Refusal::Invalid)?;
                return Ok(self.identity(Principal::User(user.id), Credential::Secret));
            }
            _ => return Err(Refusal::Invalid),
        };
        let claims = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Value = claims.and_then(|c| serde_json::from_slice(&c).ok()).ok_or(Refusal::Invalid)?;
        let jti = claims["jti"].as_str().unwrap().to_owned();
        if claims["family"] != json!(format!("{family:?}")) {
            return Err(Refusal::Invalid);
        }
        if state.token_revoked(&jti) {
            return Err(Refusal::Revoked);
        }
        let user = UserId::new(claims["username"].as_str().unwrap()).unwrap();
        Ok(self.identity(Principal::User(user), Credential::Token { jti }))
    }

    async fn hash_secret(&self, secret: String) -> Result<String, Error> {
        Ok(secret)
    }

    fn issue(&self, order: TokenOrder) -> Result<IssuedToken, Error> {
        let jti = format!("j{}", self.random());
        let mut claims = order.claims;
        claims["jti"] = json!(jti);
        claims["family"] = json!(format!("{:?}", order.family));
        let token = format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        Ok(IssuedToken { token, jti, expires_at: self.now().plus(i64::from(order.ttl_s) * 1_000) })
    }

    async fn ask(&self, who: &Identity, ask: Ask) -> Result<(Outcome, Arc<State>), Error> {
        self.run(&who.principal, &ask)
    }

    async fn page(&self, _who: &Identity, _room: &RoomId, _page: PageOf) -> Result<Page, Error> {
        Ok(Page::default())
    }

    async fn find(&self, _who: &Identity, message: &MessageId) -> Result<Option<Record>, Error> {
        let said = Message {
            id: MessageId::new("0123456789abcdef01234567").unwrap(),
            from: Principal::System,
            from_name: String::new(),
            role: Role::System,
            kind: MessageKind::Text,
            content: Content::Text("whole".into()),
            parts: Some(Json::of(&json!({ "attachments": ["a"] }))),
            metadata: None,
            reply_to: None,
            platform: None,
            tokens: 0,
            via: None,
        };
        Ok((said.id == *message).then(|| Record {
            offset: Offset(1),
            room_seq: Some(1),
            at: self.now(),
            t: self.now(),
            actor: Principal::System,
            room: Some(RoomId::new("r").unwrap()),
            client: None,
            event: Event::MessagePosted(said),
        }))
    }
}

impl Table {
    fn identity(&self, principal: Principal, credential: Credential) -> Identity {
        let expires_at = Some(self.now().plus(1_000));
        let (workspace, incarnation) = (self.default_workspace(), Default::default());
        Identity { workspace, principal, credential, incarnation, expires_at }
    }
}

#[test]
fn a_password_gives_tokens_and_says_who_one_is() {
    let table = Table::new();
    let asked = json!({"username": "ann", "password": "pass", "client_type": "Service"});
    let (status, body) = table.call("POST", "/api/auth/login", None, &asked);
    assert_eq!(status, 200);
    let user = json!({
        "id": "ann", "username": "ann", "roles": ["owner"],
        "permissions": ["read", "chat", "operate", "admin"], "client_type": "Service",
    });
    assert_eq!(body["user"], user);
    assert_eq!(body["token_type"], "bearer");
    assert_eq!(body["expires_in"], 3_600);
    assert_eq!(body["expires_at"], "2026-01-01T01:00:00.000Z");
    let (status, me) = table.call("GET", "/api/auth/me", body["token"].as_str(), &Value::Null);
    assert_eq!((status, &me["id"]), (200, &json!("ann")));
}

#[test]
fn failures_say_the_same_for_a_wrong_password_and_an_unknown_user() {
    let table = Table::new();
    let login = |body: Value| table.call("POST", "/api/auth/login", None, &body);
    let told = json!({
        "error": "Invalid credentials", "message": "Invalid credentials", "code": 401, "request_id": "r-1",
    });
    assert_eq!(login(json!({"username": "ann", "password": "x"})), (401, told.clone()));
    assert_eq!(login(json!({"username": "nobody", "password": "x"})), (401, told));
    for bad in
        [json!({}), json!({"username": "ann", "password": 1}), json!({"username": "", "password": "x"})]
    {
        assert_eq!(login(bad).0, 400);
    }
    assert_eq!(login(json!({"username": "ann", "password": "pass", "client_type": "Robot"})).0, 400);
    assert_eq!(login(json!({"username": "busy", "password": "x"})).0, 429);
    assert_eq!(table.call("GET", "/api/auth/login", None, &Value::Null).0, 405);
    assert_eq!(table.call("GET", "/api/auth/me", None, &Value::Null).0, 401);
    assert_eq!(table.me("nonsense"), 401);
}

#[test]
fn a_refresh_token_opens_nothing_but_a_new_token() {
    let table = Table::new();
    let (token, again) = table.login();
    assert_eq!(table.me(&again), 401);
    assert_eq!(table.refresh(&token, false).0, 401);
    assert_eq!(table.refresh("nonsense", false).0, 401);
    let (status, body) = table.refresh(&again, false);
    assert_eq!((status, &body["success"], &body["request_id"]), (200, &json!(true), &json!("r-1")));
    assert!(body.get("refresh_token").is_none());
    assert_eq!(table.me(body["token"].as_str().unwrap()), 200);
    assert_eq!(table.refresh(&again, false).0, 200, "it may be used again");
}

#[test]
fn rotation_makes_the_old_refresh_token_worthless() {
    let table = Table::new();
    let (_, first) = table.login();
    let (status, body) = table.refresh(&first, true);
    assert_eq!(status, 200);
    assert_eq!(table.refresh(&first, false).0, 401);
    assert_eq!(table.refresh(body["refresh_token"].as_str().unwrap(), false).0, 200);
}

#[test]
fn after_logout_neither_token_is_worth_anything() {
    let table = Table::new();
    let (token, again) = table.login();
    let (_, rotated) = table.refresh(&again, true);
    let (other, other_again) = table.login();
    let (status, body) = table.call("POST", "/api/auth/logout", Some(&token), &json!({}));
    assert_eq!(status, 200);
    assert_eq!(body, json!({"success": true, "message": "Logged out", "request_id": "r-1"}));
    assert_eq!(table.me(&token), 401);
    assert_eq!(table.refresh(rotated["refresh_token"].as_str().unwrap(), false).0, 401);
    assert_eq!(table.call("POST", "/api/auth/logout", Some(&token), &json!({})).0, 401);
    assert_eq!(table.me(&other), 200, "another login goes on");
    assert_eq!(table.refresh(&other_again, false).0, 200);
}

#[test]
fn the_whole_of_a_message_is_there_for_who_may_read_it() {
    let table = Table::new();
    let (token, _) = table.login();
    let get = |id: &str, token: Option<&str>| {
        table.call("GET", &format!("/api/messages/{id}"), token, &Value::Null)
    };
    let (status, body) = get("0123456789abcdef01234567", Some(&token));
    assert_eq!((status, &body["content"], &body["attachments"]), (200, &json!("whole"), &json!(["a"])));
    assert_eq!((&body["session_id"], &body["sender"]), (&json!("r"), &json!("system")));
    assert_eq!(get("0123456789abcdef01234567", None).0, 401);
    for unknown in ["fedcba987654321001234567", "nothing", "%20"] {
        assert_eq!(get(unknown, Some(&token)).0, 404);
    }
    assert_eq!(table.call("DELETE", "/api/messages/x", Some(&token), &Value::Null).0, 405);
}
