//! Tests of the operator's interface, over HTTP, with a state that the engine makes and a log in a list.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use roundtable_core::command::Command;
use roundtable_core::engine::{Context, Outcome, decide};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{ConnectionId, Principal, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::{Moment, Offset};
use roundtable_core::users::WorkspaceCreated;
use roundtable_dialects::session::{Credentials, Family, Identity, Proof, Refusal};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower_service::Service as _;

use rights_page::show;

use super::{Admin, Office, router};
use crate::auth::keys::sha256_hex;
use crate::auth::secrets::{Held, Secrets};
use crate::auth::{Directory, Identifier};
use crate::clock;
use crate::config::Auth;
use crate::log::{Epochs, Shown, Verified};
use crate::transport::report::Listed;

#[path = "../../../roundtable-core/tests/rules/rights_page.rs"]
mod rights_page;

pub(crate) const TOKEN: &str = "the-admin-token";

/// A server without a disk.
#[derive(Clone)]
pub(crate) struct Memory {
    kept: Arc<Mutex<(State, Vec<Record>)>>,
    head: watch::Sender<Offset>,
    pub(crate) broken: Arc<Mutex<Option<(Offset, String)>>>,
}

impl Memory {
    fn new() -> Self {
        let memory =
            Self { kept: Arc::default(), head: watch::Sender::new(Offset(0)), broken: Arc::default() };
        let domain_key_hash = sha256_hex(b"domain");
        let name = "default".to_owned();
        memory
            .carry_out(
                Principal::System,
                &Command::CreateWorkspace(WorkspaceCreated { name, domain_key_hash }),
            )
            .unwrap();
        memory
    }

    fn carry_out(&self, actor: Principal, command: &Command) -> Result<(Outcome, Arc<State>), Error> {
        let mut kept = self.kept.lock().unwrap();
        let (state, records) = &mut *kept;
        let (now, random, by) = (clock::now(), clock::random_u64(), Principal::System);
        let ctx = Context { now, at: now, actor: actor.clone(), by, connection: None, random, client: None };
        let decision = decide(state, command, &ctx)?;
        let outcome = decision.result();
        for (room, event) in decision.events {
            let room_seq = room.as_ref().map(|room| state.next_in_room(room));
            let (offset, actor) = (state.head.next(), actor.clone());
            let record = Record { offset, room_seq, at: now, t: now, actor, room, client: None, event };
            state.apply(&record);
            records.push(record);
        }
        self.head.send_replace(state.head);
        Ok((outcome, Arc::new(state.clone())))
    }

    fn records(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        self.kept.lock().unwrap().1.iter().filter(|record| wanted(record)).cloned().collect()
    }
}

impl Office for Memory {
    fn within(&self, workspace: &WorkspaceId) -> Option<Self> {
        (*workspace == Office::workspace(self)).then(|| self.clone())
    }

    fn is_default(&self) -> bool {
        true
    }

    fn workspaces(&self) -> Vec<(WorkspaceId, Arc<State>)> {
        vec![(Office::workspace(self), Office::state(self))]
    }

    async fn found(&self, workspace: WorkspaceId, _: String) -> Result<(), Error> {
        let message = format!("{workspace} cannot be made beside the one there is");
        Err(Error::new(ErrorKind::Conflict, message))
    }

    fn workspace(&self) -> WorkspaceId {
        WorkspaceId::new("default").unwrap()
    }

    fn state(&self) -> Arc<State> {
        Arc::new(self.kept.lock().unwrap().0.clone())
    }

    fn epochs(&self) -> Arc<Epochs> {
        Arc::default()
    }

    async fn ask(&self, actor: Principal, command: Command) -> Result<(Outcome, Arc<State>), Error> {
        self.carry_out(actor, &command)
    }

    async fn page(&self, room: &RoomId, before: Option<Offset>, limit: usize) -> Result<Shown, Error> {
        let mut found = self.records(|record| {
            record.room.as_ref() == Some(room)
                && matches!(record.event, Event::MessagePosted(_))
                && before.is_none_or(|before| record.offset < before)
        });
        let start = found.len().saturating_sub(limit);
        Ok(Shown { records: found.split_off(start), more: start > 0 })
    }

    async fn read(&self, after: Offset, limit: usize) -> Result<Vec<Record>, Error> {
        let mut found = self.records(|record| record.offset > after);
        found.truncate(limit);
        Ok(found)
    }

    async fn connections(&self, _: Option<WorkspaceId>) -> Vec<Listed> {
        Vec::new()
    }

    async fn close(&self, _: ConnectionId) -> bool {
        false
    }

    async fn verify(&self, _: Option<WorkspaceId>) -> Result<Vec<(WorkspaceId, Verified)>, Error> {
        let records = self.records(|_| true);
        let broken = self.broken.lock().unwrap().clone();
        let sound = broken.as_ref().map_or(records.len() as u64, |(offset, _)| offset.0 - 1);
        Ok(vec![(Office::workspace(self), Verified { sound, broken })])
    }

    async fn backup(&self, to: PathBuf) -> Result<(), Error> {
        let lines: Vec<String> = self.records(|_| true).iter().map(|record| format!("{record:?}")).collect();
        std::fs::write(to, lines.join("\n")).map_err(|error| Error::invalid("file", &error.to_string()))
    }

    fn refusals(&self) -> Vec<crate::watch::Standing> {
        Vec::new()
    }

    fn forgive(&self, _: &str) {}

    async fn beyond(&self, offset: Offset) {
        let mut head = self.head.subscribe();
        if head.wait_for(|head| *head > offset).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Directory for Memory {
    fn state(&self, _: &WorkspaceId) -> Option<Arc<State>> {
        Some(Office::state(self))
    }

    fn moment(&self, _: &WorkspaceId) -> Moment {
        Moment { t: clock::now(), at: clock::now() }
    }

    fn by_domain_key_hash(&self, _: &str) -> Option<WorkspaceId> {
        None
    }

    fn default_workspace(&self) -> Option<WorkspaceId> {
        Some(Office::workspace(self))
    }
}

/// A server of the operator's interface on a free port.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) memory: Memory,
    pub(crate) identifier: Identifier,
    _dir: tempfile::TempDir,
    finished: std::sync::atomic::AtomicBool,
}

impl Served {
    /// Begins to serve on a thread of its own, for as long as the test process lives.
    pub(crate) fn begin() -> Self {
        let memory = Memory::new();
        let identifier = Identifier::new(Arc::new(memory.clone()), &[3; 32], &Auth::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (office, secrets) = (memory.clone(), Held::new(dir.path(), Secrets::draw(TOKEN)));
        let admin = Admin { office, identifier: identifier.clone(), secrets, config: Arc::default() };
        let routes = router(Arc::new(admin));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    let routes = routes.clone();
                    let answer =
                        move |request: http::Request<hyper::body::Incoming>| routes.clone().call(request);
                    let service = hyper::service::service_fn(answer);
                    let connection = hyper::server::conn::http1::Builder::new();
                    tokio::spawn(
                        async move { connection.serve_connection(TokioIo::new(socket), service).await },
                    );
                }
            });
        });
        Self { address, memory, identifier, _dir: dir, finished: false.into() }
    }

    fn send(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let url = format!("http://{}/admin/v1{path}", self.address);
        let mut request = http::Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .build();
        let mut response =
            ureq::Agent::new_with_config(config).run(request.body(body.to_string()).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// For tests with a thread of their own: it may end.
    pub(crate) fn finish(&self) {
        self.finished.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn done(&self) -> bool {
        self.finished.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.send(method, path, Some(TOKEN), body)
    }

    fn identify(&self, proof: Proof) -> Result<Identity, Refusal> {
        let credentials = Credentials { domain_key: None, proof };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.identifier.identify(credentials, [127, 0, 0, 1].into(), None))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn only_the_admin_token_opens_any_path() {
    let served = Served::begin();
    served.ask("POST", "/users", &json!({"username": "ann", "role": "owner", "password": "password"}));
    let user = text(&served.ask("POST", "/tokens", &json!({"user": "ann"})).1["token"]);
    let key = text(&served.ask("POST", "/keys", &json!({"user": "ann"})).1["key"]);
    let mut shown =
        String::from("\n| path | with the admin token | with anything else |\n| --- | --- | --- |\n");
    for (call, _) in super::table::table::<Memory>() {
        let path = call.path;
        let method = format!("{:?}", call.verb).to_uppercase();
        shown.push_str(&format!("| `{method} {path}` | yes | no |\n"));
        let path = path.replace(['{', '}'], "");
        let wrong = [(None, "Unauthenticated"), (Some("guess"), "InvalidCredential")];
        for (token, kind) in
            wrong.into_iter().chain([&user, &key].map(|t| (Some(t.as_str()), "InvalidCredential")))
        {
            let (status, answer) = served.send(&method, &path, token, &json!({}));
            assert_eq!((status, &answer["error"]["kind"]), (401, &json!(kind)), "{method} {path}");
        }
        if path != "/tail" {
            let (status, answer) = served.ask(&method, &path, &json!({}));
            assert!(![401, 403].contains(&status), "{method} {path}: {answer}");
        }
    }
    show("admin", &shown);
    for (token, kind) in [(None, "Unauthenticated"), (Some("guess"), "InvalidCredential")] {
        let (status, answer) = served.send("GET", "/nothing", token, &json!({}));
        assert_eq!((status, &answer["error"]["kind"]), (401, &json!(kind)));
    }
    assert_eq!(served.ask("GET", "/nothing", &json!({})).0, 404);
}

#[test]
fn users_are_made_once_and_log_in() {
    let served = Served::begin();
    let (status, drawn) = served.ask("POST", "/users", &json!({"username": "ann"}));
    assert_eq!((status, &drawn["role"]), (201, &json!("viewer")));
    let password = |username: &str, password: String| {
        served.identify(Proof::Password { username: username.into(), password })
    };
    assert_eq!(password("ann", text(&drawn["password"])).unwrap().principal.to_string(), "user:ann");
    let (status, given) =
        served.ask("POST", "/users", &json!({"username": "bob", "password": "password", "role": "owner"}));
    assert_eq!(
        (status, given),
        (201, json!({"username": "bob", "role": "owner"})),
        "a given password is not repeated"
    );
    assert!(password("bob", "password".into()).is_ok());
    let (status, answer) = served.ask("POST", "/users", &json!({"username": "bob"}));
    assert_eq!((status, &answer["error"]["field"]), (409, &json!("username")));
    assert_eq!(served.ask("PATCH", "/users/bob", &json!({"disabled": true})).0, 200);
    assert_eq!(password("bob", "password".into()), Err(Refusal::Suspended));
    assert_eq!(
        served.ask("PATCH", "/users/bob", &json!({"disabled": false, "password": "new password"})).0,
        200
    );
    assert!(password("bob", "new password".into()).is_ok() && password("bob", "password".into()).is_err());
    for wrong in [
        json!({}),
        json!({"username": "a b"}),
        json!({"username": "c", "colour": 1}),
        json!({"username": "d", "password": ""}),
        json!({"username": "d", "password": "1234567"}),
        json!({"username": "d", "password": "x".repeat(257)}),
    ] {
        assert_eq!(served.ask("POST", "/users", &wrong).0, 400, "{wrong}");
    }
}

#[test]
fn agents_get_their_secret_once() {
    let served = Served::begin();
    let (status, made) = served.ask("POST", "/agents", &json!({"agent_id": "scout", "name": "Scout"}));
    assert_eq!(status, 201);
    let proof = || Proof::AgentSecret { agent: "scout".into(), secret: text(&made["secret"]) };
    assert_eq!(served.identify(proof()).unwrap().principal.to_string(), "agent:scout");
    assert_eq!(served.ask("POST", "/agents", &json!({"agent_id": "scout"})).0, 409);
    assert_eq!(served.ask("PATCH", "/agents/scout", &json!({"suspended": true})).0, 200);
    assert_eq!(served.identify(proof()), Err(Refusal::Suspended));
    assert_eq!(served.ask("PATCH", "/agents/nobody", &json!({"suspended": true})).0, 404);
}

#[test]
fn a_new_secret_ends_the_old_one_and_what_was_had_for_it() {
    let served = Served::begin();
    let (_, made) = served.ask("POST", "/agents", &json!({"agent_id": "scout"}));
    let token = || {
        let (_, issued) = served.ask("POST", "/tokens", &json!({"agent": "scout"}));
        Proof::Token(Family::Aiwm, text(&issued["token"]))
    };
    let secret = |made: &Value| Proof::AgentSecret { agent: "scout".into(), secret: text(&made["secret"]) };
    let before = token();
    let (status, again) = served.ask("POST", "/agents/scout/secret", &json!({}));
    assert_eq!((status, &again["agent_id"]), (201, &json!("scout")));
    assert_eq!(served.identify(secret(&made)), Err(Refusal::Invalid));
    assert_eq!(served.identify(before), Err(Refusal::Revoked));
    assert!(served.identify(secret(&again)).is_ok() && served.identify(token()).is_ok());
    assert_eq!(served.ask("POST", "/agents/nobody/secret", &json!({})).0, 404);
}

#[test]
fn a_removed_agent_leaves_no_key_behind() {
    let served = Served::begin();
    served.ask("POST", "/rooms", &json!({"room": "lobby"}));
    let (_, made) = served.ask("POST", "/agents", &json!({"agent_id": "scout"}));
    let (_, key) = served.ask("POST", "/keys", &json!({"agent": "scout", "room": "lobby"}));
    assert_eq!(served.ask("DELETE", "/agents/scout", &json!({})).0, 200);
    let proof = Proof::ChannelKey { key_id: text(&key["key_id"]), secret: text(&key["secret"]) };
    assert_eq!(served.identify(proof), Err(Refusal::Revoked));
    let proof = Proof::AgentSecret { agent: "scout".into(), secret: text(&made["secret"]) };
    assert_eq!(served.identify(proof), Err(Refusal::Invalid));
    assert_eq!(served.ask("DELETE", "/agents/scout", &json!({})).0, 404);
    assert_eq!(served.ask("GET", "/agents", &json!({})).1, json!({"agents": []}));
}

#[test]
fn keys_open_what_they_were_made_for_until_they_are_revoked() {
    let served = Served::begin();
    served.ask("POST", "/users", &json!({"username": "ann"}));
    served.ask("POST", "/rooms", &json!({"room": "lobby"}));
    let (status, user_key) = served.ask("POST", "/keys", &json!({"user": "ann"}));
    assert_eq!(status, 201);
    assert_eq!(user_key["key"], format!("{}:{}", text(&user_key["key_id"]), text(&user_key["secret"])));
    assert!(served.identify(Proof::ApiKey(text(&user_key["key"]))).is_ok());
    served.ask("POST", "/agents", &json!({"agent_id": "scout"}));
    let (status, room_key) = served.ask("POST", "/keys", &json!({"agent": "scout", "room": "lobby"}));
    assert_eq!(status, 201);
    let (key_id, secret) = (text(&room_key["key_id"]), text(&room_key["secret"]));
    assert_eq!(
        served.identify(Proof::ChannelKey { key_id, secret }).unwrap().principal.to_string(),
        "agent:scout"
    );
    assert_eq!(served.ask("DELETE", &format!("/keys/{}", text(&user_key["key_id"])), &json!({})).0, 200);
    assert_eq!(served.identify(Proof::ApiKey(text(&user_key["key"]))), Err(Refusal::Revoked));
    for (wrong, status) in [
        (json!({}), 400),
        (json!({"user": "ann", "room": "lobby"}), 400),
        (json!({"agent": "scout"}), 400),
        (json!({"user": "nobody"}), 404),
        (json!({"agent": "scout", "room": "nowhere"}), 404),
        (json!({"agent": "scuot", "room": "lobby"}), 404),
    ] {
        assert_eq!(served.ask("POST", "/keys", &wrong).0, status, "{wrong}");
    }
}

#[test]
fn tokens_are_of_the_family_that_fits_their_bearer() {
    let served = Served::begin();
    served.ask("POST", "/users", &json!({"username": "ann"}));
    served.ask("POST", "/agents", &json!({"agent_id": "scout"}));
    for (order, family, who) in [
        (json!({"user": "ann"}), Family::Login, "user:ann"),
        (json!({"user": "ann", "dialect": "mxf"}), Family::Mxf, "user:ann"),
        (json!({"agent": "scout"}), Family::Aiwm, "agent:scout"),
        (json!({"agent": "scout", "dialect": "hive", "ttl_ms": 60_000.0}), Family::Login, "agent:scout"),
        (json!({"node": "watcher"}), Family::OpenAgi, "node:watcher"),
        (json!({"user": "ann", "dialect": "openagi"}), Family::OpenAgi, "user:ann"),
    ] {
        let (status, issued) = served.ask("POST", "/tokens", &order);
        assert_eq!(status, 201, "{order}");
        let identity = served.identify(Proof::Token(family, text(&issued["token"]))).unwrap();
        assert_eq!(identity.principal.to_string(), who);
        assert!(text(&issued["expires_at"]).ends_with('Z'));
    }
    for (wrong, status) in [
        (json!({}), 400),
        (json!({"user": "ann", "agent": "scout"}), 400),
        (json!({"node": "n", "dialect": "mxf"}), 409),
        (json!({"user": "ann", "ttl_ms": 999}), 400),
        (json!({"user": "ann", "ttl_ms": 60_000.5}), 400),
        (json!({"user": "nobody"}), 404),
        (json!({"agent": "nobody"}), 404),
    ] {
        assert_eq!(served.ask("POST", "/tokens", &wrong).0, status, "{wrong}");
    }
}

#[test]
fn a_token_is_revoked_by_showing_it() {
    let served = Served::begin();
    let (_, issued) = served.ask("POST", "/tokens", &json!({"node": "n"}));
    let proof = || Proof::Token(Family::OpenAgi, text(&issued["token"]));
    assert!(served.identify(proof()).is_ok());
    assert_eq!(served.ask("POST", "/tokens/revoke", &json!({"token": issued["token"]})).0, 200);
    assert_eq!(served.identify(proof()), Err(Refusal::Revoked));
    assert_eq!(served.ask("POST", "/tokens/revoke", &json!({"token": "x.y.z"})).0, 404);
}

#[test]
fn rooms_are_made_spoken_in_and_read() {
    let served = Served::begin();
    served.ask("POST", "/users", &json!({"username": "admin"}));
    served.ask("POST", "/agents", &json!({"agent_id": "scout", "name": "Scout"}));
    assert_eq!(served.ask("POST", "/rooms", &json!({"room": "lobby", "durability": "relaxed"})).0, 201);
    assert_eq!(served.ask("POST", "/rooms", &json!({"room": "lobby"})).0, 409);
    let (status, sent) = served.ask("POST", "/rooms/lobby/messages", &json!({"content": "one"}));
    assert_eq!((status, text(&sent["message_id"]).len()), (201, 24));
    assert_eq!(
        served.ask("POST", "/rooms/lobby/messages", &json!({"content": "two", "from": "agent:scout"})).0,
        201
    );
    let (_, page) = served.ask("GET", "/rooms/lobby/messages?limit=1", &json!({}));
    let (_, shown) = served.ask("GET", "/rooms/lobby", &json!({}));
    assert_eq!((&shown["durability"], &shown["messages"]), (&json!("relaxed"), &json!(2)));
    assert_eq!(shown["last"], page["messages"][0]["cursor"]);
    let members: Vec<&Value> = shown["members"].as_array().unwrap().iter().map(|m| &m["member"]).collect();
    assert_eq!(members, ["agent:scout", "user:admin"]);
    assert_eq!(served.ask("GET", "/rooms/nowhere", &json!({})).0, 404);
    let last = &page["messages"][0];
    assert_eq!((&last["event"]["from_name"], &last["event"]["role"]), (&json!("Scout"), &json!("assistant")));
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
    let (_, page) =
        served.ask("GET", &format!("/rooms/lobby/messages?before={}", text(&last["cursor"])), &json!({}));
    assert_eq!(page["messages"][0]["event"]["content"], json!({"text": "one"}));
    for (path, body, status) in [
        ("/rooms/nowhere/messages", json!({"content": "x"}), 404),
        ("/rooms/lobby/messages", json!({"content": "x", "from": "user:nobody"}), 404),
        ("/rooms/lobby/messages", json!({"content": "x", "from": "system"}), 400),
        ("/rooms/lobby/messages", json!({"content": ""}), 400),
    ] {
        assert_eq!(served.ask("POST", path, &body).0, status, "{path} {body}");
    }
    assert_eq!(served.ask("GET", "/rooms/nowhere/messages", &json!({})).0, 404);
}

#[test]
fn a_tail_shows_what_was_and_what_comes() {
    use std::io::BufRead as _;
    let served = Served::begin();
    served.ask("POST", "/users", &json!({"username": "admin", "password": "password"}));
    served.ask("POST", "/rooms", &json!({"room": "lobby"}));
    let lines = |query: &str| {
        let url = format!("http://{}/admin/v1/tail{query}", served.address);
        let response = ureq::get(url).header("authorization", format!("Bearer {TOKEN}")).call().unwrap();
        std::io::BufReader::new(response.into_body().into_reader())
            .lines()
            .map(|line| serde_json::from_str::<super::records::Seen>(&line.unwrap()).unwrap())
    };
    let kinds: Vec<String> = lines("?since=1:0").take(3).map(|seen| seen.kind).collect();
    assert_eq!(kinds, ["workspace.created", "user.added", "room.created"]);
    let mut live = lines("?room=lobby");
    served.ask("POST", "/rooms", &json!({"room": "other"}));
    served.ask("POST", "/rooms/lobby/messages", &json!({"content": "hello"}));
    assert_eq!(live.next().unwrap().kind, "room.joined");
    assert!(live.next().unwrap().line().ends_with("[lobby] admin: hello"));
    let hidden: Vec<_> = lines("?since=1:0").take(2).collect();
    assert!(hidden.iter().all(
        |seen| !seen.event.to_string().contains("argon2") && seen.event.get("domain_key_hash").is_none()
    ));
    assert_eq!(served.ask("GET", "/tail?room=nowhere", &json!({})).0, 404);
    let printed = lines("?since=1:0").nth(1).unwrap().cursor;
    assert_eq!(lines(&format!("?since={printed}")).next().unwrap().kind, "room.created");
    for (since, status) in [("7", 400), ("1:99", 410), ("2:1", 410)] {
        assert_eq!(served.ask("GET", &format!("/tail?since={since}"), &json!({})).0, status, "{since}");
    }
    assert_eq!(served.memory.records(|_| true).len(), 6);
}
