//! Two workspaces in one server, with the same names in both: MXF and AIWM clients of each see their own alone.

use std::net::SocketAddr;

use roundtable::auth::first_start::FirstCredentials;
use roundtable::server::Server;
use serde_json::{Value, json};

use super::{call, config};

/// The operator of one workspace.
struct Operator {
    address: SocketAddr,
    token: String,
    workspace: &'static str,
}

impl Operator {
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let path = format!("/admin/v1{path}?workspace={}", self.workspace);
        let (status, text) = call(self.address, (method, &path), &self.token, &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    fn made(&self, path: &str, body: &Value) -> Value {
        let (status, made) = self.ask("POST", path, body);
        assert_eq!(status, 201, "{path} {body}: {made}");
        made
    }
}

/// A Socket.IO client that polls.
struct Polling {
    address: SocketAddr,
    path: String,
}

impl Polling {
    fn open(address: SocketAddr, auth: &Value) -> Self {
        let mut client = Self { address, path: "/socket.io/?EIO=4&transport=polling".into() };
        let opened: Value = serde_json::from_str(client.poll().strip_prefix('0').unwrap()).unwrap();
        client.path = format!("{}&sid={}", client.path, opened["sid"].as_str().unwrap());
        client.say(&format!("40{auth}"));
        client
    }

    fn say(&self, packet: &str) {
        let (status, _) = call(self.address, ("POST", &self.path), "", packet);
        assert_eq!(status, 200, "{packet}");
    }

    fn poll(&self) -> String {
        let (status, body) = call(self.address, ("GET", &self.path), "", "");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Everything up to a packet with these words.
    fn until(&self, words: &str) -> String {
        let mut all = String::new();
        for _ in 0..50 {
            all += &self.poll();
            if all.contains(words) {
                return all;
            }
        }
        panic!("no {words} in {all}");
    }
}

/// What one workspace's clients hold: `scout` with a channel key and an AIWM token.
fn settle(operator: &Operator, domain_key: &str) -> (Value, String) {
    operator.made("/rooms", &json!({"room": "lobby"}));
    operator.made("/agents", &json!({"agent_id": "scout"}));
    let key = operator.made("/keys", &json!({"agent": "scout", "room": "lobby"}));
    let auth = json!({"domainKey": domain_key, "agentId": "scout", "keyId": key["key_id"], "secretKey": key["secret"]});
    let token = operator.made("/tokens", &json!({"agent": "scout", "dialect": "aiwm"}));
    (auth, token["token"].as_str().unwrap().to_owned())
}

fn said(address: SocketAddr, token: &str) -> String {
    let (status, body) = call(address, ("GET", "/dev/aiwm/messages/conversation/lobby"), token, "");
    assert_eq!(status, 200, "{body}");
    body
}

fn both(address: SocketAddr, credentials: &FirstCredentials) -> Value {
    let operator = |workspace| Operator { address, token: credentials.admin_token.clone(), workspace };
    let (here, there) = (operator("default"), operator("acme"));
    let made = here.made("/workspaces", &json!({"workspace": "acme"}));
    assert_eq!(here.ask("POST", "/workspaces", &json!({"workspace": "acme"})).0, 409);
    assert_eq!(here.ask("POST", "/workspaces", &json!({"workspace": "a b"})).0, 400);
    assert_eq!(operator("nowhere").ask("GET", "/rooms", &Value::Null).0, 404);
    let (ours, our_token) = settle(&here, &credentials.domain_key);
    let (theirs, their_token) = settle(&there, made["domain_key"].as_str().unwrap());

    let (scout, other) = (Polling::open(address, &ours), Polling::open(address, &theirs));
    scout.until("auth:success");
    other.until("auth:success");
    let message =
        |text: &str| format!("420{}", json!(["message:send", {"channelId": "lobby", "content": text}]));
    other.say(&message("said in acme"));
    other.until("said in acme");
    scout.say(&message("said in default"));
    assert!(!scout.until("said in default").contains("acme"));
    assert!(!other.poll_now().contains("default"));
    assert!(
        said(address, &our_token).contains("said in default") && !said(address, &our_token).contains("acme")
    );
    assert!(said(address, &their_token).contains("said in acme"));
    assert!(!said(address, &their_token).contains("said in default"));

    let mixed = json!({"domainKey": theirs["domainKey"], "agentId": "scout", "keyId": ours["keyId"], "secretKey": ours["secretKey"]});
    Polling::open(address, &mixed).until("auth:error");
    assert_eq!(here.ask("PATCH", "/agents/scout", &json!({"suspended": true})).0, 200);
    let refused = call(address, ("GET", "/dev/aiwm/messages/conversation/lobby"), &our_token, "");
    assert!(refused.0 >= 400, "{refused:?}");
    assert!(said(address, &their_token).contains("said in acme"), "only the other scout is suspended");
    theirs
}

impl Polling {
    /// What waits at this moment: a question of its own ends the poll at the latest.
    fn poll_now(&self) -> String {
        self.say(r#"42["message:send",{"channelId":"lobby","content":"last"}]"#);
        self.until("last")
    }
}

#[tokio::test]
async fn equal_names_in_two_workspaces_never_meet_and_both_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&config(dir.path())).await.unwrap();
    let address = server.addresses.first().copied().flatten().unwrap();
    let credentials = FirstCredentials::read(dir.path()).unwrap().unwrap();
    let token = credentials.admin_token.clone();
    let theirs = tokio::task::spawn_blocking(move || both(address, &credentials)).await.unwrap();
    server.stop().await;

    let server = Server::start(&config(dir.path())).await.unwrap();
    let address = server.addresses.first().copied().flatten().unwrap();
    let asked = move || {
        Polling::open(address, &theirs).until("auth:success");
        call(address, ("GET", "/admin/v1/workspaces"), &token, "").1
    };
    let listed: Value = serde_json::from_str(&tokio::task::spawn_blocking(asked).await.unwrap()).unwrap();
    let names: Vec<&str> = listed["workspaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["workspace"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["acme", "default"]);
    assert_eq!(
        (&listed["workspaces"][0]["default"], &listed["workspaces"][1]["default"]),
        (&json!(false), &json!(true))
    );
    server.stop().await;
}
