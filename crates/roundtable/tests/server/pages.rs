//! Every list that REST has, of every dialect and of the operator: its pages are bounded in items and in bytes, each of them
//! says how to go on, and all of them together have everything once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rig::House;

/// Most items of a page.
const ITEMS: usize = 200;
/// Most bytes of an answer: a page, one more item, and what stands around them.
const BYTES: usize = (1 << 20) + (64 << 10);
/// How many of each there are.
const MANY: usize = 230;
/// It does not matter here how many there are.
const ANY: usize = usize::MAX;

/// How a list says where its next page begins.
enum Goes {
    /// In the `Link` header.
    Link,
    /// A member is the value of a parameter of the query.
    Member(&'static str, &'static str),
    /// Pages are counted in items: a member says whether there is more.
    Offset(&'static str),
}

struct List {
    path: String,
    bearer: String,
    /// Where the items are, and where what tells them apart is in each.
    items: &'static str,
    id: &'static str,
    goes: Goes,
    all: usize,
    /// Pages that there are at least.
    pages: usize,
}

impl List {
    /// Follows the pages to their end; what they have.
    async fn walk(&self, house: &House) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut path = self.path.clone();
        for page in 1.. {
            assert!(page < 1_000, "{} has no end", self.path);
            let (status, head, body) = house.whole(0, &format!("GET {path}"), &self.bearer, "").await;
            assert_eq!(status, 200, "{path}: {body}");
            assert!(body.len() <= BYTES, "{path}: {} bytes", body.len());
            let body: Value = serde_json::from_str(&body).unwrap();
            let items = body.pointer(self.items).and_then(Value::as_array);
            let items = items.unwrap_or_else(|| panic!("{path}: {body}"));
            assert!(items.len() <= ITEMS, "{path}: {} items", items.len());
            for item in items {
                let id = if self.id.is_empty() { item } else { item.pointer(self.id).unwrap() };
                assert!(found.insert(id.to_string()), "{path}: {id} comes twice");
            }
            let joint = if self.path.contains('?') { '&' } else { '?' };
            let next = match self.goes {
                Goes::Link => head.lines().find_map(|line| {
                    let link = line.strip_prefix("link: <")?.strip_suffix(">; rel=\"next\"")?;
                    Some(link.to_owned())
                }),
                Goes::Member(member, name) => {
                    body.pointer(member).filter(|next| !next.is_null()).map(|next| {
                        let next = next.as_str().map_or_else(|| next.to_string(), str::to_owned);
                        format!("{}{joint}{name}={next}", self.path)
                    })
                }
                Goes::Offset(member) => (body.pointer(member) == Some(&json!(true)))
                    .then(|| format!("{}{joint}offset={}", self.path, found.len())),
            };
            match next {
                Some(next) => path = next,
                None => {
                    assert!(page >= self.pages, "{}: {page} pages", self.path);
                    return found;
                }
            }
        }
        found
    }
}

/// People, agents with large settings, rooms, and a room with large messages; the tokens of an owner for AIWM and for MXF.
async fn filled() -> (House, String, String, String) {
    let house = House::open(&["mxf.messages_per_minute=off", "server.requests_per_address=32"]).await;
    let token = |dialect: &'static str| {
        let house = &house;
        async move {
            let (status, answer) =
                house.admin("POST /admin/v1/tokens", json!({"user": "admin", "dialect": dialect})).await;
            assert_eq!(status, 201, "{answer}");
            answer["token"].as_str().unwrap().to_owned()
        }
    };
    let (aiwm, mxf) = (token("aiwm").await, token("mxf").await);
    let one = |n: usize| {
        let (house, aiwm, mxf) = (&house, aiwm.clone(), mxf.clone());
        async move {
            let agent = json!({"name": format!("agent {n}"), "description": "d", "status": "active",
                "settings": {"prompt": "p".repeat(20 << 10)}});
            let (status, made) = house.http(0, "POST /dev/aiwm/agents", &aiwm, &agent).await;
            assert_eq!(status, 201, "{made}");
            let room = json!({"title": format!("room {n}"), "agentId": made["_id"], "description": "d".repeat(9_000)});
            let (status, answer) = house.http(0, "POST /dev/aiwm/conversations", &aiwm, &room).await;
            assert_eq!(status, 201, "{answer}");
            let said = json!({"content": format!("{n} {}", "m".repeat(30_000))});
            let (status, answer) = house.http(0, "POST /api/channels/hall/messages", &mxf, &said).await;
            assert_eq!(status, 201, "{answer}");
            let key = json!({"user": "admin", "name": "k".repeat(100)});
            assert_eq!(house.admin("POST /admin/v1/keys", key).await.0, 201);
        }
    };
    let (status, answer) =
        house.http(0, "POST /api/channels/hall/context", &mxf, &json!({"name": "Hall"})).await;
    assert_eq!(status, 201, "{answer}");
    for number in 0..MANY {
        one(number).await;
    }
    let agent = house.http(0, "GET /dev/aiwm/agents?limit=1", &aiwm, &Value::Null).await.1;
    let agent = agent["data"][0]["_id"].as_str().unwrap().to_owned();
    (house, aiwm, mxf, agent)
}

fn of(
    bearer: &str,
    (path, items, id): (&str, &'static str, &'static str),
    goes: Goes,
    (all, pages): (usize, usize),
) -> List {
    let (path, bearer) = (path.to_owned(), bearer.to_owned());
    List { path, bearer, items, id, goes, all, pages }
}

fn of_aiwm(aiwm: &str, agent: &str) -> Vec<List> {
    let hall = "/dev/aiwm/messages/conversation/hall";
    let next = || Goes::Member("/pagination/next", "skip");
    vec![
        of(aiwm, ("/dev/aiwm/agents?limit=200&page=1", "/data", "/_id"), next(), (MANY, 5)),
        of(aiwm, ("/dev/aiwm/agents?limit=200&sort=%7B%22name%22:1%7D", "/data", "/_id"), next(), (MANY, 5)),
        of(aiwm, ("/dev/aiwm/conversations?limit=200", "/data", "/_id"), next(), (MANY + 1, 3)),
        of(aiwm, ("/dev/aiwm/conversations/my-conversations", "", "/_id"), Goes::Link, (MANY + 1, 3)),
        of(aiwm, (&format!("{hall}?limit=200"), "/data", "/_id"), Goes::Member("/next", "skip"), (MANY, 7)),
        of(aiwm, (&format!("{hall}/role/user"), "", "/_id"), Goes::Link, (MANY, 7)),
        of(aiwm, (&format!("{hall}/last/200"), "", "/_id"), Goes::Link, (MANY, 7)),
        of(aiwm, (&format!("{hall}/search?q=mmm"), "", "/_id"), Goes::Link, (MANY, 7)),
        of(aiwm, (&format!("{hall}/attachments"), "", "/_id"), Goes::Link, (0, 1)),
        of(
            aiwm,
            (&format!("/dev/aiwm/agents/{agent}/anonymous-tokens?limit=1"), "/items", "/tokenId"),
            Goes::Member("/next", "skip"),
            (0, 1),
        ),
        of(aiwm, (&format!("/dev/aiwm/conversations/agent/{agent}"), "", "/_id"), Goes::Link, (1, 1)),
    ]
}

fn of_others(mxf: &str) -> Vec<List> {
    vec![
        of(
            "",
            ("/api/agents?limit=1000", "/data/agents", "/id"),
            Goes::Offset("/data/pagination/has_more"),
            (MANY, 2),
        ),
        of(
            "",
            ("/metrics/alerts?limit=1", "/data/configured_alerts", "/alert_id"),
            Goes::Offset("/data/pagination/has_more"),
            (3, 3),
        ),
        of(
            mxf,
            ("/api/channels/hall/history?limit=200", "/data/messages", "/messageId"),
            Goes::Member("/data/next", "before"),
            (MANY, 7),
        ),
        of(
            mxf,
            ("/api/channels/hall/messages", "/data/messages", "/messageId"),
            Goes::Member("/data/next", "before"),
            (MANY, 7),
        ),
    ]
}

fn of_the_operator(admin: &str) -> Vec<List> {
    let after = || Goes::Member("/next", "after");
    vec![
        of(admin, ("/admin/v1/agents", "/agents", "/agent_id"), after(), (MANY, 2)),
        of(admin, ("/admin/v1/keys?limit=50", "/keys", "/key_id"), after(), (MANY, 5)),
        of(admin, ("/admin/v1/rooms", "/rooms", "/room"), after(), (MANY + 1, 2)),
        of(admin, ("/admin/v1/rooms?limit=50", "/rooms", "/room"), after(), (MANY + 1, 5)),
        of(admin, ("/admin/v1/users?limit=1", "/users", "/username"), after(), (1, 1)),
        of(admin, ("/admin/v1/nodes", "/nodes", "/node_id"), after(), (ANY, 1)),
        of(admin, ("/admin/v1/blocks", "/blocks", "/address"), after(), (ANY, 1)),
        of(admin, ("/admin/v1/connections", "/connections", "/id"), after(), (ANY, 1)),
        of(admin, ("/admin/v1/workspaces?limit=1", "/workspaces", "/workspace"), after(), (1, 1)),
        of(admin, ("/admin/v1/rooms/hall?limit=1", "/members", "/member"), after(), (1, 1)),
        of(
            admin,
            ("/admin/v1/rooms/hall/messages?limit=1000", "/messages", "/cursor"),
            Goes::Member("/next", "before"),
            (MANY, 7),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_comes_in_pages_and_is_whole() {
    let (house, aiwm, mxf, agent) = filled().await;
    let mut lists = of_aiwm(&aiwm, &agent);
    lists.extend(of_others(&mxf));
    lists.extend(of_the_operator(&house.first.admin_token));
    let alert = |name: &str| json!({"name": name, "metric": "process_memory", "threshold": 1e18});
    let alerts = json!({"alerts": [alert("one"), alert("two"), alert("three")]});
    assert_eq!(house.http(0, "POST /metrics/alerts", "", &alerts).await.0, 201);
    let node = house.node_token("watcher").await;
    let peers = Goes::Member("/next", "skip");
    lists.push(of(&node, ("/api/v1/network/peers?limit=1", "/peers", "/node_id"), peers, (1, 1)));
    for list in &lists {
        let found = list.walk(&house).await;
        assert!(list.all == ANY || found.len() == list.all, "{}: {}", list.path, found.len());
    }
    let counted = house.http(0, "GET /dev/aiwm/conversations?limit=1", &aiwm, &Value::Null).await.1;
    assert_eq!(counted["pagination"], json!({"page": 1, "limit": 1, "total": MANY + 1}));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_sorted_whatever_its_values_are() {
    let house = House::open(&[]).await;
    let (_, answer) = house.admin("POST /admin/v1/tokens", json!({"user": "admin", "dialect": "aiwm"})).await;
    let token = answer["token"].as_str().unwrap();
    let tags = [json!(["a"]), json!([]), json!(["b", "c"])];
    for (number, tags) in tags.into_iter().cycle().take(40).enumerate() {
        let agent = json!({"name": format!("agent {number}"), "description": "d", "status": "active", "tags": tags,
            "role": if number % 2 == 0 { json!("r") } else { Value::Null }});
        assert_eq!(house.http(0, "POST /dev/aiwm/agents", token, &agent).await.0, 201);
    }
    for sort in [
        r#"{"role":1}"#,
        r#"{"tags.0":-1,"role":"desc"}"#,
        r#"{"owner":1,"tags":1,"name":-0.5}"#,
        r#"{"":[]}"#,
    ] {
        let sort = sort.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let (status, body) =
            house.http(0, &format!("GET /dev/aiwm/agents?limit=200&sort={sort}"), token, &Value::Null).await;
        assert_eq!((status, body["data"].as_array().map(Vec::len)), (200, Some(40)), "{sort}: {body}");
    }
    house.close().await;
}
