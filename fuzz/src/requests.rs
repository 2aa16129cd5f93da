//! REST of every dialect: the input is a list of requests, each a line with a method, a path and a query, and a body behind a
//! tab; or, where it says nothing of its own, one of the paths there are with the input as its query and its body.

use std::net::IpAddr;

use roundtable_dialects::rest::Request;
use roundtable_dialects::session::Dialect;
use roundtable_dialects::transcript::line::Step;
use roundtable_dialects::transcript::{Names, Theatre as _, parse};

use super::cast::Cast;
use super::desk;

/// Requests of one input, at most.
const REQUESTS: usize = 32;

/// Who and what is there.
const BEFORE: &str = "@ agent scribe\n@ agent other\n@ user ann\n@ user bob\n@ room hall\n@ room vault entry=private\n\
    @ token $ann_chat aiwm user:ann\n@ token $ann login user:ann\n@ token $mxf mxf agent:other\n@ token $node open-agi node:n9\n";

/// Paths that lists, documents and writes have, each with who asks.
const PATHS: [(Dialect, &str, &str); 24] = [
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/agents"),
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/agents/scribe"),
    (Dialect::Aiwm, "", "/dev/aiwm/agents/scribe/connect"),
    (Dialect::Aiwm, "", "/dev/aiwm/auth/login"),
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/conversations"),
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/conversations/hall"),
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/conversations/my-conversations"),
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/messages"),
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/messages/conversation/hall"),
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/messages/conversation/hall/search"),
    (Dialect::Aiwm, "$ann_chat", "/dev/aiwm/messages/conversation/hall/last/9"),
    (Dialect::Hive, "$ann", "/api/agents"),
    (Dialect::Hive, "$ann", "/api/agents/bulk/create"),
    (Dialect::Hive, "$ann", "/api/agents/scribe/pause"),
    (Dialect::Hive, "$ann", "/metrics/history"),
    (Dialect::Hive, "$ann", "/metrics/alerts"),
    (Dialect::Mxf, "$mxf", "/api/channels/hall/context"),
    (Dialect::Mxf, "$mxf", "/api/channels/hall/messages"),
    (Dialect::Mxf, "$mxf", "/api/channels/hall/metadata/key"),
    (Dialect::Mxf, "$mxf", "/api/channels/hall/topics"),
    (Dialect::Mxf, "", "/api/users/register"),
    (Dialect::OpenAgi, "$node", "/api/v1/security/incident"),
    (Dialect::OpenAgi, "$node", "/api/v1/network/peers"),
    (Dialect::MegaBot, "", "/api/auth/login"),
];
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Asks; every request has an answer that is no 500, and JSON where it says so.
pub fn run(data: &[u8]) {
    let (mut cast, mut names) = (Cast::new(), Names::default());
    cast.introduce(&mut names);
    for line in BEFORE.lines() {
        for line in parse(line).unwrap() {
            let Step::SetUp(what) = line.step else { continue };
            cast.set_up(&what, &mut names).unwrap();
        }
    }
    for (number, line) in data.split(|byte| *byte == b'\n').take(REQUESTS).enumerate() {
        let [first, second, rest @ ..] = line else { continue };
        let (dialect, who, path) = PATHS[usize::from(*first) % PATHS.len()];
        let (query, body) = match rest.iter().position(|byte| *byte == b'\t') {
            Some(tab) => (&rest[..tab], &rest[tab + 1..]),
            None => (rest, rest),
        };
        let query = String::from_utf8_lossy(query);
        let bearer = names.get(who.trim_start_matches('$')).map(|token| format!("Bearer {token}"));
        let request = Request {
            method: METHODS[usize::from(*second) % METHODS.len()],
            path,
            query: &query,
            body,
            authorization: bearer.as_deref(),
            api_key: None,
            channel_key: None,
            request_id: "fuzz",
            peer: IpAddr::from([127, 0, 0, 1]),
            anonymous: number % 2 == 0,
        };
        let answer = desk::answer(&mut cast.world, dialect, &request).expect("one of its paths");
        assert!((200..=599).contains(&answer.status) && answer.status != 500, "{request:?}: {answer:?}");
        assert!(answer.body.len() <= 2 << 20, "{} bytes", answer.body.len());
        if answer.content_type == "application/json" && answer.status != 204 {
            let json = serde_json::from_str::<serde_json::Value>(&answer.body);
            assert!(json.is_ok(), "{request:?}: {answer:?}");
        }
    }
}
