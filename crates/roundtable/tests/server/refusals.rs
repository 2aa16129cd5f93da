//! What no handler gets is refused in the words of the dialect whose path it is.

use serde_json::{Value, json};

use crate::rig::House;

/// A body in the form of one dialect, by what tells the forms apart.
fn form(body: &Value, status: u16) -> &'static str {
    let error = &body["error"];
    if body["statusCode"] == status && body["path"].is_string() && body["correlationId"].is_string() {
        "aiwm"
    } else if error["code"] == status && error["message"].is_string() && error.get("details").is_some() {
        "open-agi"
    } else if error.is_string() && body["code"] == status && body["request_id"].is_string() {
        "megabot"
    } else if body["success"] == false && error["code"].is_string() && body["timestamp"].is_string() {
        "hive"
    } else if body["success"] == false && body["message"].is_string() && error.is_null() {
        "mxf"
    } else if error["kind"].is_string() && error["message"].is_string() {
        "own"
    } else if error.is_string() && body["message"].is_string() {
        "nobody's"
    } else {
        "none"
    }
}

/// Status, form and `Allow` of an answer.
async fn told(house: &House, what: &str, body: &str) -> (u16, &'static str, Option<String>) {
    let bearer = if what.contains("/admin/") { house.first.admin_token.as_str() } else { "" };
    let (status, head, text) = house.whole(1, what, bearer, body).await;
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{what}: {head} {text}"));
    let allow = head.lines().find_map(|line| line.strip_prefix("allow: ")).map(str::to_uppercase);
    (status, form(&body, status), allow)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths_and_large_bodies_are_told_in_the_form_of_the_path() {
    let house = House::open(&["server.max_body=1KiB"]).await;
    let large = json!({"text": "x".repeat(2_000)}).to_string();
    for (path, whose) in [
        ("/dev/aiwm/nothing", "aiwm"),
        ("/dev/aiwm/chat/socket.io/more", "aiwm"),
        ("/api/v1/nothing", "open-agi"),
        ("/openagi/api/v1/nothing", "open-agi"),
        ("/api/auth/nothing", "megabot"),
        ("/api/messages/one/more", "megabot"),
        ("/api/channels/lobby/nothing", "mxf"),
        ("/api/users/nothing", "mxf"),
        ("/api/agents/memory/a/b", "mxf"),
        ("/api/nothing", "hive"),
        ("/api/agents/a1/nothing", "hive"),
        ("/metrics/nothing", "hive"),
        ("/admin/v1/nothing", "own"),
        ("/nothing", "nobody's"),
        ("/apiary", "nobody's"),
    ] {
        let what = format!("POST {path}");
        assert_eq!(told(&house, &what, "").await, (404, whose, None), "{path}");
        assert_eq!(told(&house, &what, &large).await, (413, whose, None), "{path}");
    }
    for (path, whose) in [
        ("/dev/aiwm/auth/login", "aiwm"),
        ("/api/v1/auth/token", "open-agi"),
        ("/api/auth/login", "megabot"),
        ("/api/users/login", "mxf"),
        ("/api/agents", "hive"),
        ("/admin/v1/users", "own"),
    ] {
        assert_eq!(told(&house, &format!("POST {path}"), &large).await, (413, whose, None), "{path}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_method_is_told_with_those_that_fit() {
    let house = House::open(&[]).await;
    for (what, whose, allow) in [
        ("GET /dev/aiwm/auth/login", "aiwm", "POST"),
        ("PATCH /dev/aiwm/conversations/x", "aiwm", "GET, PUT, DELETE, HEAD"),
        ("DELETE /dev/aiwm/agents/x/heartbeat", "aiwm", "POST"),
        ("GET /api/v1/auth/token", "open-agi", "POST"),
        ("POST /api/v1/status", "open-agi", "GET, HEAD"),
        ("GET /api/auth/login", "megabot", "POST"),
        ("DELETE /api/messages/x", "megabot", "GET, HEAD"),
        ("PUT /api/channels/lobby/messages", "mxf", "GET, POST, HEAD"),
        ("PATCH /api/agents", "hive", "GET, POST, HEAD"),
        ("POST /api/agents/a1", "hive", "GET, PUT, DELETE, HEAD"),
        ("DELETE /health", "hive", "GET, HEAD"),
        ("GET /api/metrics/alerts/x", "hive", "DELETE"),
        ("DELETE /admin/v1/users", "own", "GET,HEAD,POST"),
        ("POST /livez", "own", "GET,HEAD"),
    ] {
        assert_eq!(told(&house, what, "").await, (405, whose, Some(allow.to_owned())), "{what}");
    }
    house.close().await;
}
