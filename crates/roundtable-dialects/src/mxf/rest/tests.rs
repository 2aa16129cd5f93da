//! REST over a desk in memory: who may come in, and which paths are whose.

use roundtable_core::command::Command;
use roundtable_core::ids::UserId;
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::{Value, json};

use super::handle;
use crate::mxf::encode;
use crate::rest::Request;
use crate::stage::{Counter, Stage, answered, request};

fn counter() -> Counter {
    let mut stage = Stage::new(encode);
    for (user, role) in [("ann", UserRole::Viewer), ("ed", UserRole::Editor)] {
        let user = UserId::new(user).unwrap();
        stage.system(Command::AddUser(UserAdded { user, role, password: None }));
    }
    Counter::of(&stage)
}

fn call(counter: &Counter, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = body.to_string();
    let with = Request { authorization: Some("Bearer user:ann"), ..request(method, path, &body) };
    answered(handle(&with, counter))
}

#[test]
fn only_the_own_paths_are_answered() {
    let counter = counter();
    for path in
        ["/api/agents/a1", "/api/tasks", "/api/auth/login", "/api/channels", "/api/channels/c/x", "/health"]
    {
        assert_eq!(call(&counter, "GET", path, json!({})).0, 0, "{path}");
    }
    assert_eq!(call(&counter, "DELETE", "/api/channels/c/messages", json!({})).0, 405);
    assert_eq!(call(&counter, "PATCH", "/api/channels/memory/c", json!({})).0, 405);
    assert_eq!(call(&counter, "GET", "/api/channels/nowhere/context", json!({})).0, 404);
    assert_eq!(call(&counter, "GET", "/api/agents/context/key_1", json!({})).0, 404);
}

#[test]
fn who_shows_nothing_or_nonsense_stays_outside() {
    let counter = counter();
    let shown = |authorization, channel_key| {
        let with = Request { authorization, channel_key, ..request("GET", "/api/channels/c/context", "") };
        answered(handle(&with, &counter))
    };
    assert_eq!(shown(None, None), (401, json!({"success": false, "message": "Authentication required"})));
    assert_eq!(shown(Some("Bearer nonsense"), None).0, 401);
    assert_eq!(shown(Some("Bearer user:ann"), Some(("key_1", "s"))).0, 401, "the key decides");
}

#[test]
fn registration_is_open_at_home_and_by_invitation_elsewhere() {
    let counter = counter();
    let body =
        json!({"username": "bob", "email": "bob@example.org", "password": "secret", "role": "consumer"});
    let body = body.to_string();
    let post = |body: &str, anonymous, authorization| {
        let path = "/api/users/register";
        answered(handle(&Request { anonymous, authorization, ..request("POST", path, body) }, &counter))
    };
    let (status, answer) = post(&body, true, None);
    assert_eq!((status, &answer["success"]), (201, &json!(true)));
    assert_eq!(answer["user"], json!({"id": "bob", "userId": "bob", "username": "bob", "role": "consumer"}));
    assert_eq!(counter.orders.lock().unwrap()[0].claims["userId"], "bob");
    let (status, answer) = post(&body, true, None);
    assert_eq!((status, answer["message"].as_str()), (409, Some("User bob already exists")));
    for (role, status) in [("admin", 403), ("provider", 409), ("owner", 403)] {
        assert_eq!(post(&body.replace("consumer", role), true, None).0, status, "{role}");
    }
    let next = body.replace("bob", "eve");
    assert_eq!(post(&next, false, None).0, 403);
    assert_eq!(post(&next, false, Some("Bearer nonsense")).0, 401);
    assert_eq!(post(&next, false, Some("Bearer user:ann")).0, 403);
    assert_eq!(post(&next, false, Some("Bearer user:ed")).0, 201);
    for wrong in [r#"{"username":"x"}"#, r#"{"username":"a b","password":"p"}"#, "[]", r#"{"password":7}"#] {
        assert_eq!(post(wrong, true, None).0, 400, "{wrong}");
    }
}

#[test]
fn a_channel_is_made_described_and_changed() {
    let counter = counter();
    let path = "/api/channels/lab/context";
    let (status, answer) =
        call(&counter, "POST", path, json!({"name": "Lab", "isPrivate": true, "metadata": {"k": 1}}));
    assert_eq!(
        (status, &answer["data"]["name"], &answer["data"]["isPrivate"]),
        (201, &json!("Lab"), &json!(true))
    );
    assert_eq!(call(&counter, "POST", path, json!({})).0, 409);
    let (_, answer) = call(&counter, "PATCH", path, json!({"description": "Where we try things"}));
    assert_eq!(answer["data"]["description"], "Where we try things");
    assert_eq!(call(&counter, "PATCH", path, json!({})).0, 400);
    let stranger = Request { authorization: Some("Bearer agent:x"), ..request("GET", path, "") };
    assert_eq!(answered(handle(&stranger, &counter)).0, 404, "a private channel is not there for others");
    let metadata = "/api/channels/lab/metadata";
    assert_eq!(call(&counter, "POST", metadata, json!({"l": [2]})).1["data"], json!({"k": 1, "l": [2]}));
    assert_eq!(call(&counter, "POST", "/api/channels/lab/metadata/k", json!({"value": 3})).1["data"]["k"], 3);
    assert_eq!(
        call(&counter, "GET", "/api/channels/lab/metadata/k", json!({})).1["data"],
        json!({"key": "k", "value": 3})
    );
    assert_eq!(call(&counter, "GET", "/api/channels/lab/metadata/z", json!({})).0, 404);
    assert_eq!(call(&counter, "POST", "/api/channels/lab/metadata/k", json!({})).0, 400);
}
