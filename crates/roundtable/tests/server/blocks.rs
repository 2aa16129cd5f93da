//! Blocks hit the right one: genuine credentials are never guesses, open during a block, and every refusal is told and lifted.

use std::net::IpAddr;

use roundtable_core::ids::{Principal, WorkspaceId};
use roundtable_dialects::rest::{Limited, TokenOrder};
use roundtable_dialects::session::{Dialect, Family};
use serde_json::{Value, json};

use crate::rig::{Client, House};

/// Everything that this server makes to open something, by name.
struct Ring(Vec<(String, String)>);

fn token(house: &House, family: Family, subject: &str, workspace: &str) -> String {
    let (subject, workspace) = (Principal::parse(subject).unwrap(), WorkspaceId::new(workspace).unwrap());
    let home = house.server.hub.workspaces.get(&workspace).unwrap();
    let order = TokenOrder {
        family,
        incarnation: home.view().state.incarnation(&subject).unwrap(),
        subject,
        workspace,
        ttl_s: 600,
        claims: json!({"login": "login-1"}),
    };
    house.server.hub.identity.issue(&order).unwrap().token
}

impl Ring {
    async fn of(house: &House) -> Self {
        let mut ring = Vec::new();
        let made = house.admin("POST /admin/v1/workspaces", json!({"workspace": "other"})).await;
        assert_eq!(made.0, 201);
        ring.push(("other's domain key".to_owned(), made.1["domain_key"].as_str().unwrap().to_owned()));
        ring.push(("domain key".to_owned(), house.first.domain_key.clone()));
        ring.push(("admin token".to_owned(), house.first.admin_token.clone()));
        for workspace in ["default", "other"] {
            for (path, body) in [
                ("users", json!({"username": "ann", "password": "right password", "role": "owner"})),
                ("agents", json!({"agent_id": "scout"})),
                ("rooms", json!({"room": "lobby"})),
            ] {
                let what = format!("POST /admin/v1/{path}?workspace={workspace}");
                assert_eq!(house.admin(&what, body).await.0, 201, "{what}");
            }
            for (name, body) in
                [("key", json!({"user": "ann"})), ("channel key", json!({"agent": "scout", "room": "lobby"}))]
            {
                let what = format!("POST /admin/v1/keys?workspace={workspace}");
                let (status, key) = house.admin(&what, body).await;
                assert_eq!(status, 201, "{key}");
                ring.push((format!("{name} of {workspace}"), key["key"].as_str().unwrap().to_owned()));
            }
            for (family, subject) in [
                (Family::Mxf, "user:ann"),
                (Family::Aiwm, "user:ann"),
                (Family::Aiwm, "agent:scout"),
                (Family::OpenAgi, "node:n1"),
                (Family::Login, "user:ann"),
                (Family::Refresh, "user:ann"),
            ] {
                let name = format!("{family:?} token of {subject} in {workspace}");
                ring.push((name, token(house, family, subject, workspace)));
            }
        }
        Self(ring)
    }

    fn get(&self, name: &str) -> &str {
        &self.0.iter().find(|(known, _)| known == name).unwrap().1
    }
}

/// Where something can be shown.
const DOORS: [&str; 18] = [
    "GET /api/channels/lobby/history Authorization",
    "GET /api/channels/lobby/history X-Key",
    "GET /dev/aiwm/agents Authorization",
    "GET /api/agents Authorization",
    "GET /api/agents X-API-Key",
    "GET /api/agents ?token",
    "GET /api/agents ?api_key",
    "GET /api/auth/me Authorization",
    "POST /api/auth/refresh body",
    "GET /api/v1/network/peers Authorization",
    "GET /admin/v1/users Authorization",
    "socket /hive/ws ?token",
    "socket /hive/ws ?api_key",
    "socket /megabot/ws ?token",
    "socket /openagi/ws ?token",
    "socket /dev/aiwm/chat ?token",
    "namespace / token",
    "namespace /chat token",
];

fn quoted(text: &str) -> String {
    text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

/// Shows a credential at a door. A word on what came of it: the status of HTTP, or `in`, or what a socket said.
async fn show(house: &House, door: &str, text: &str) -> String {
    let parts: Vec<&str> = door.split(' ').collect();
    let [what, path, how] = parts[..] else { panic!("{door}") };
    let at = house.address(0);
    match what {
        "socket" => match Client::come(at, &format!("{path}{how}={}", quoted(text))).await {
            Err((status, _)) => status.to_string(),
            Ok(mut client) if path == "/openagi/ws" => {
                client.say(r#"{"type":"ping"}"#).await;
                client.text().await.unwrap()
            }
            Ok(mut client) => client.text().await.unwrap(),
        },
        "namespace" => {
            let mut client = Client::come(at, "/socket.io/?EIO=4&transport=websocket").await.unwrap();
            assert!(client.text().await.unwrap().starts_with('0'));
            let namespace = if path == "/" { String::new() } else { format!("{path},") };
            client.say(&format!("40{namespace}{}", json!({"token": text}))).await;
            let first = client.text().await.unwrap();
            // MXF tells a failed login inside the namespace.
            if path == "/" && first.starts_with("40") { client.text().await.unwrap() } else { first }
        }
        _ => {
            let (id, secret) = text.split_once(':').unwrap_or(("key_0", text));
            let (head, body) = match how {
                "Authorization" => (format!("Authorization: Bearer {text}\r\n"), String::new()),
                "X-API-Key" => (format!("X-API-Key: {text}\r\n"), String::new()),
                "X-Key" => (format!("X-Key-Id: {id}\r\nX-Secret-Key: {secret}\r\n"), String::new()),
                "body" => (String::new(), json!({"refresh_token": text}).to_string()),
                _ => (String::new(), String::new()),
            };
            let query = if how.starts_with('?') { format!("{how}={}", quoted(text)) } else { String::new() };
            house.with_head(0, &format!("{what} {path}{query}"), &head, &body).await.0.to_string()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genuine_credential_in_a_wrong_place_is_no_guess() {
    let house = House::open(&["openagi.requests_per_minute=off", "openagi.requests_per_hour=off"]).await;
    let ring = Ring::of(&house).await;
    let mut opened = 0;
    for door in DOORS {
        for (name, text) in &ring.0 {
            let told = show(&house, door, text).await;
            assert_eq!(house.server.hub.watch.failures(), 0, "{name} at {door}: {told}");
            if told.len() == 3 && told.starts_with(|c: char| c.is_ascii_digit()) {
                assert!(["200", "401", "403"].contains(&&*told), "{name} at {door}: {told}");
                opened += usize::from(told == "200");
            }
        }
    }
    assert!(opened >= 10, "each REST door opened to something: {opened}");
    let (_, listed) = house.admin("GET /admin/v1/blocks", Value::Null).await;
    assert_eq!(listed["blocks"], json!([]));
    // What nobody made is a guess at each of them.
    for (n, door) in (1..).zip(DOORS) {
        house.admin("POST /admin/v1/blocks/lift", json!({"address": "127.0.0.1"})).await;
        // It looks like a token, since not everything is looked at.
        show(&house, door, "e30.eyJsb2dpbiI6IngifQ.guess").await;
        assert_eq!(house.server.hub.watch.failures(), n, "{door}");
    }
    house.close().await;
}

/// Guesses until the address is blocked at the first listener.
async fn block(house: &House) {
    for _ in 0..6 {
        assert_eq!(house.http(0, "GET /api/agents", "guess", &Value::Null).await.0, 401);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_block_tokens_and_keys_open_and_the_rest_is_told_of_it() {
    let house = House::open(&[]).await;
    let ring = Ring::of(&house).await;
    block(&house).await;
    for (door, name) in [
        ("GET /api/channels/lobby/history Authorization", "Mxf token of user:ann in default"),
        ("GET /api/channels/lobby/history X-Key", "channel key of default"),
        ("GET /dev/aiwm/agents Authorization", "Aiwm token of user:ann in default"),
        ("GET /api/agents Authorization", "Login token of user:ann in default"),
        ("GET /api/agents X-API-Key", "key of default"),
        ("GET /api/auth/me Authorization", "Login token of user:ann in default"),
        ("POST /api/auth/refresh body", "Refresh token of user:ann in default"),
        ("GET /admin/v1/users Authorization", "admin token"),
        ("socket /hive/ws ?token", "Login token of user:ann in default"),
        ("socket /megabot/ws ?token", "Login token of user:ann in default"),
        ("namespace / token", "Mxf token of user:ann in default"),
        ("namespace /chat token", "Aiwm token of agent:scout in default"),
    ] {
        let told = show(&house, door, ring.get(name)).await;
        // The agent of a channel key may not be a member yet: then it is known and sees nothing.
        let inside = told == "200"
            || (told == "403" && door.starts_with("GET /api/channels/"))
            || told.contains("hive_status_update")
            || told.contains("connection_established")
            || told.contains("auth:success")
            || told.starts_with("40/chat,{");
        assert!(inside, "{name} at {door}: {told}");
    }
    let agent = ring.get("OpenAgi token of node:n1 in default");
    assert_eq!(show(&house, "GET /api/v1/network/peers Authorization", agent).await, "403");
    assert_eq!(show(&house, "socket /openagi/ws ?token", agent).await, "403");
    for (door, words) in [
        ("GET /api/channels/lobby/history Authorization", "429"),
        ("GET /dev/aiwm/agents Authorization", "429"),
        ("GET /api/agents Authorization", "429"),
        ("GET /api/auth/me Authorization", "429"),
        ("GET /admin/v1/users Authorization", "403"),
        ("socket /hive/ws ?token", "\"retry_after_seconds\":"),
        ("socket /megabot/ws ?token", "\"retry_after_ms\":"),
        ("socket /dev/aiwm/chat ?token", "429"),
        ("namespace /chat token", "\"code\":\"TOO_MANY_FAILURES\",\"status\":429,\"retryAfter\":"),
    ] {
        let told = show(&house, door, "guess").await;
        assert!(told.contains(words), "{door}: {told}");
    }
    mxf_says_so(&house).await;
    house.close().await;
}

/// A password of MXF's that is not read: what is said, and that there is no word of a wrong one.
async fn mxf_says_so(house: &House) {
    let auth = json!({"domainKey": house.first.domain_key, "keyId": "key_1", "secretKey": "guess"});
    let mut client = Client::come(house.address(0), "/socket.io/?EIO=4&transport=websocket").await.unwrap();
    client.text().await;
    client.say(&format!("40{auth}")).await;
    client.text().await;
    let first = client.text().await.unwrap();
    assert!(
        first.starts_with(r#"42["auth:error",{"error":"Too many failed logins: try again in "#),
        "{first}"
    );
    let second = client.text().await.unwrap();
    assert!(second.contains(r#""code":"RATE_LIMITED""#) && second.contains("retryAfterMs"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_block_passwords_are_read_at_a_pace() {
    let house = House::open(&[]).await;
    Ring::of(&house).await;
    block(&house).await;
    let login = |password: &str| json!({"username": "ann", "password": password}).to_string();
    let right = login("right password");
    let (status, ..) = house.whole(0, "POST /api/auth/login", "", &right).await;
    assert_eq!(status, 200, "whoever knows it is not locked out");
    let (status, head, body) = house.whole(0, "POST /dev/aiwm/auth/login", "", &right).await;
    assert_eq!(status, 429, "{body}");
    let after: u64 =
        head.split("\nretry-after: ").nth(1).unwrap().lines().next().unwrap().trim().parse().unwrap();
    assert!((1..=10).contains(&after), "{head}");
    // Another account waits for the address alone: a second.
    let other = json!({"username": "admin", "password": "guess"}).to_string();
    let began = roundtable::clock::monotonic_ms();
    let mut told = 429;
    while told == 429 && roundtable::clock::monotonic_ms() - began < 8_000 {
        told = house.whole(0, "POST /api/users/login", "", &other).await.0;
    }
    assert_eq!(told, 401, "it is read again, and wrong");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_refusal_is_listed_and_lifted() {
    let house =
        House::open(&["security.failed_logins=off", "auth.failures=2", "server.connections_per_address=1"])
            .await;
    let far: IpAddr = "192.0.2.7".parse().unwrap();
    for _ in 0..2 {
        let login = json!({"username": "ann", "password": "guess"});
        assert_eq!(house.http(0, "POST /api/auth/login", "", &login).await.0, 401);
    }
    let hub = &house.server.hub;
    while hub.rates.load().spend(Limited::Requests(Dialect::OpenAgi), far).is_ok() {}
    while hub.rates.load().spend(Limited::Status, far).is_ok() {}
    let place = hub.crowd.enter(far).unwrap();
    assert!(hub.crowd.enter(far).is_none());
    let listener = house.listener(0);
    assert!((0..101).all(|_| hub.watch.comes((far, &listener))));
    let (_, listed) = house.admin("GET /admin/v1/blocks", Value::Null).await;
    let kinds: Vec<_> =
        listed["blocks"].as_array().unwrap().iter().map(|b| (&b["address"], &b["attack_type"])).collect();
    let far_kinds =
        ["server.connections_per_address", "hive.status_per_minute", "openagi.requests_per_minute", "ddos"];
    for kind in far_kinds {
        assert!(kinds.contains(&(&json!("192.0.2.7"), &json!(kind))), "{kind}: {kinds:?}");
    }
    assert_eq!(listed["blocks"][0]["account"], "ann");
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    for address in ["192.0.2.7", "127.0.0.1"] {
        let lift = || house.admin("POST /admin/v1/blocks/lift", json!({"address": address}));
        assert_eq!(lift().await.0, 200);
        assert_eq!(lift().await.0, 404);
    }
    assert!(hub.watch.comes((far, &listener)) && hub.crowd.enter(far).is_some());
    assert!(hub.rates.load().spend(Limited::Status, far).is_ok());
    drop(place);
    house.close().await;
}
