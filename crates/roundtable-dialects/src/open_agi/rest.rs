//! REST under `/api/v1` (Open-A.G.I notes §8): tokens, and what can be asked about the network, its safety and its figures.

use roundtable_core::alerts::{Block, Finding, Level, SecurityNoticed};
use roundtable_core::cluster::Node;
use roundtable_core::command::Command;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{AlertId, NodeId, Principal};
use roundtable_core::json::Json;
use roundtable_core::state::State;
use roundtable_core::time::Time;
use serde_json::{Value, json};

use super::errors::{of_engine, of_refusal, response};
use crate::iso::iso;
use crate::pages::{Filling, MOST_ITEMS, fill};
use crate::rest::{Desk, Limited, LogLevel, LogLine, Request, Response, Served, Unserved, methods_of};
use crate::session::{
    Ask, Credentials, Dialect, Family, Identity, Proof, Refusal, Token, bearer, query_value,
};
use crate::standing;

mod tokens;

/// Longest text or evidence of a reported incident, in bytes.
const MAX_REPORT_BYTES: usize = 16 << 10;
/// Log lines that are shown unless the request says how many (Open-A.G.I notes §8).
const LOG_LINES: usize = 50;
/// Most that may be asked for: as many as the server keeps. A page has at most 200.
const MOST_LOG_LINES: usize = 1_000;

/// What is served under `/api/v1/`.
pub const SERVED: &[Served] = &[
    ("auth/token", &["POST"]),
    ("security/incident", &["POST"]),
    ("status", &["GET"]),
    ("network/stats", &["GET"]),
    ("network/peers", &["GET"]),
    ("security/status", &["GET"]),
    ("monitoring/metrics", &["GET"]),
    ("monitoring/logs", &["GET"]),
    ("node/:", &["GET"]),
];

/// Answers a request under `/api/v1` or `/openagi/api/v1`; `None` if the path is not one of this dialect's.
pub async fn handle(request: &Request<'_>, desk: &impl Desk) -> Option<Response> {
    let path = request.path.trim_end_matches('/');
    let short = path.strip_prefix("/openagi").unwrap_or(path);
    let path = if short == "/ws" && short != path { "ws" } else { short.strip_prefix("/api/v1/")? };
    if let Some(answer) = blocked(path, request, desk) {
        return Some(answer);
    }
    let allowed = methods_of(SERVED, &path.split('/').collect::<Vec<_>>())?;
    let open_at_home = matches!(path, "status" | "network/stats");
    if let Err(ms) = desk.spend(Limited::Requests(Dialect::OpenAgi), request.peer) {
        let answer = response(429, "Too many requests", Value::Null);
        return Some(answer.header("Retry-After", ms.div_ceil(1000).to_string()));
    }
    if !allowed.contains(&request.method) {
        let answer = response(405, "Method not allowed", Value::Null);
        return Some(answer.header("Allow", allowed.join(", ")));
    }
    if path == "auth/token" {
        return Some(tokens::issue(request, desk).await);
    }
    let anonymous = open_at_home && request.anonymous && request.authorization.is_none();
    let workspace = match anonymous {
        true => desk.default_workspace(),
        false => match identified(request, desk).await {
            Ok(who) if path == "security/incident" => return Some(report(request, desk, &who).await),
            Ok(who)
                if ["security/status", "monitoring/logs"].contains(&path) && !standing::is_approved(&who) =>
            {
                let details = json!({"node_id": who.principal.id()});
                return Some(response(403, "The operator has not approved this node", details));
            }
            Ok(who) => who.workspace,
            Err(refusal) => return Some(of_refusal(refusal)),
        },
    };
    let Some(state) = desk.state(&workspace) else {
        return Some(response(503, "The workspace is not available", Value::Null));
    };
    Some(match path {
        "status" => status(&state, desk),
        "network/stats" => stats(&state, desk),
        "network/peers" => peers(&state, request),
        "security/status" => security(&state, request, desk),
        "monitoring/metrics" => metrics(desk),
        "monitoring/logs" => logs(request, desk),
        other => node(&state, desk, other.trim_start_matches("node/")),
    })
}

/// Whether a path is where a node gets its token.
pub fn logs_in(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    path.strip_prefix("/openagi").unwrap_or(path) == "/api/v1/auth/token"
}

/// A request under `/api/v1` that no handler gets.
pub fn unserved(why: Unserved) -> Response {
    response(why.status(), why.message(), Value::Null)
}

/// The answer to an address that is blocked, whatever it shows (Open-A.G.I notes §1, §6). Who needs to show nothing and shows
/// nothing is served.
fn blocked(path: &str, request: &Request<'_>, desk: &impl Desk) -> Option<Response> {
    let comes_in = ["ws", "monitoring/stream", "auth/token"].contains(&path);
    if !comes_in && request.authorization.is_none() {
        return None;
    }
    let ms = desk.refused_ms()?;
    let until = desk.now().plus(i64::try_from(ms).unwrap_or(i64::MAX));
    let answer = response(403, "This address is blocked", json!({ "until": iso(until) }));
    Some(answer.header("Retry-After", ms.div_ceil(1000).to_string()))
}

async fn identified(request: &Request<'_>, desk: &impl Desk) -> Result<Identity, Refusal> {
    let token = request.authorization.and_then(bearer).ok_or(Refusal::Missing)?;
    let proof = Proof::Token(Family::OpenAgi, token.to_owned());
    desk.identify(Credentials { domain_key: None, proof }, request.peer).await
}

/// What somebody found suspicious, told to the subscribers of security events in their name.
async fn report(request: &Request<'_>, desk: &impl Desk, who: &Identity) -> Response {
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(request.body) else {
        return response(400, "The body must be a JSON object", Value::Null);
    };
    let text = |name: &str| {
        let text = body.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty() && text.len() <= MAX_REPORT_BYTES)
    };
    let (kind, description) = match (text("incident_type"), text("description")) {
        (Some(kind), Some(description)) => (kind, description),
        (kind, _) => {
            let field = if kind.is_none() { "incident_type" } else { "description" };
            let message = format!("{field} must be a text of 1 to {MAX_REPORT_BYTES} bytes");
            return response(400, &message, json!({ "field": field }));
        }
    };
    let evidence = body.get("evidence").filter(|evidence| !evidence.is_null());
    if evidence.is_some_and(|evidence| evidence.to_string().len() > MAX_REPORT_BYTES) {
        let message = format!("evidence must have at most {MAX_REPORT_BYTES} bytes");
        return response(400, &message, json!({"field": "evidence"}));
    }
    let random = u64::try_from(desk.random() & u128::from(u64::MAX)).unwrap_or_default();
    let incident = AlertId::fresh(desk.now(), random);
    let notice = SecurityNoticed {
        alert: incident.clone(),
        finding: Finding::Suspicious,
        rule: kind.to_owned(),
        source: who.principal.id().to_owned(),
        place: None,
        severity: "medium".into(),
        message: description.to_owned(),
        evidence: Json::from(&json!({"count": 1, "reported": evidence, "at": body.get("timestamp")})),
        until: None,
    };
    match desk.ask(who, Ask::new(Token(0), Command::Notice(notice))).await {
        Ok(_) => Response::json(
            200,
            &json!({
                "incident_id": incident.as_str(),
                "status": "reported",
                "investigation_status": "pending",
            }),
        ),
        Err(error) => of_engine(&error),
    }
}

fn status(state: &State, desk: &impl Desk) -> Response {
    let figures = desk.figures();
    let others = state.nodes().filter(|node| node.joined.node.as_str() != figures.node).count();
    Response::json(
        200,
        &json!({
            "node_id": figures.node,
            "status": health(state),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": desk.now().since(figures.started_at).max(0) / 1000,
            "peers": others,
            // One process orders its log alone: there is nobody to agree with.
            "consensus_state": "standalone",
        }),
    )
}

/// `healthy`, `degraded` with an active warning, `critical` with an active critical alert.
fn health(state: &State) -> &'static str {
    match state.alerts_for(Feed::Monitoring).map(|alert| alert.raised.level).max() {
        Some(Level::Critical) => "critical",
        Some(Level::Warning) => "degraded",
        Some(Level::Info) | None => "healthy",
    }
}

fn stats(state: &State, desk: &impl Desk) -> Response {
    let (now, started) = (desk.now(), desk.figures().started_at);
    let total = state.nodes().len();
    let servers = state.nodes().filter(|node| node.joined.kind == "server").count();
    let scores: f64 = state.nodes().map(|node| score(node, started, now)).sum();
    Response::json(
        200,
        &json!({
            "total_nodes": total,
            "active_nodes": total,
            "byzantine_threshold": 0,
            "crash_tolerance": servers.saturating_sub(1) / 2,
            "average_score": if total == 0 { 0.0 } else { scores / total as f64 },
            "total_messages": state.messages,
            "network_health": health(state),
        }),
    )
}

/// The share of this server's life in which the node was here, 0 to 100.
fn score(node: &Node, started: Time, now: Time) -> f64 {
    let life = now.since(started).max(1) as f64;
    (now.since(node.at.max(started)).max(0) as f64 / life * 100.0).clamp(0.0, 100.0)
}

/// What of a list is asked for: how many items are passed over, and how many are wanted at most.
fn part(request: &Request<'_>) -> Result<(usize, usize), Response> {
    let number = |name: &str, default, least, most| {
        let text = query_value(request.query, name).filter(|text| !text.is_empty());
        let number = text.map_or(Ok(default), |text| text.parse::<usize>());
        number.ok().filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            let message = format!("{name} must be a number from {least} to {most}");
            response(400, &message, json!({ "field": name }))
        })
    };
    Ok((number("skip", 0, 0, usize::MAX)?, number("limit", MOST_ITEMS, 1, MOST_ITEMS)?))
}

/// An answer with what `skip` of the next page is, if there is one.
fn with_next(mut answer: Value, next: Option<usize>) -> Response {
    if let (Some(next), Some(members)) = (next, answer.as_object_mut()) {
        members.insert("next".into(), next.into());
    }
    Response::json(200, &answer)
}

fn peers(state: &State, request: &Request<'_>) -> Response {
    let (skip, limit) = match part(request) {
        Ok(part) => part,
        Err(wrong) => return wrong,
    };
    let peer = |node: &Node| {
        let presence = state.presence(&Principal::Node(node.joined.node.clone()));
        json!({
            "node_id": node.joined.node.as_str(),
            "address": node.joined.address,
            "connection_time": iso(node.at),
            "last_message": presence.map(|presence| iso(presence.last_seen)),
        })
    };
    let (peers, more) = fill(state.nodes().skip(skip).map(peer), limit);
    let next = more.then(|| skip.saturating_add(peers.len()));
    with_next(json!({ "peers": peers }), next)
}

fn node(state: &State, desk: &impl Desk, id: &str) -> Response {
    let found = NodeId::new(id).ok().and_then(|id| state.node(&id));
    let Some(node) = found else { return response(404, "Node not found", json!({"node_id": id})) };
    let presence = state.presence(&Principal::Node(node.joined.node.clone()));
    let now = desk.now();
    // A node of the network is connected: it was seen just now.
    let last_seen = presence.filter(|presence| !presence.online()).map_or(now, |presence| presence.last_seen);
    Response::json(
        200,
        &json!({
            "node_id": node.joined.node.as_str(),
            "public_key": state.node_key(&node.joined.node),
            "address": node.joined.address,
            "joined_at": iso(node.at),
            "last_seen": iso(last_seen),
            "score": score(node, desk.figures().started_at, now),
        }),
    )
}

fn security(state: &State, request: &Request<'_>, desk: &impl Desk) -> Response {
    let (skip, limit) = match part(request) {
        Ok(part) => part,
        Err(wrong) => return wrong,
    };
    let shown = |Block { notice, .. }: &Block| {
        json!({
            "address": notice.source,
            "attack_type": notice.rule,
            "until": notice.until.map(iso),
            "listener": notice.place,
        })
    };
    let (blocked, more) = fill(state.blocks().skip(skip).map(shown), limit);
    let next = more.then(|| skip.saturating_add(blocked.len()));
    let answer = json!({
        "intrusion_attempts": state.intrusions,
        "blocked_addresses": blocked,
        "encryption_status": if desk.figures().encrypted { "active" } else { "inactive" },
        "last_security_event": state.last_security.map(iso),
    });
    with_next(answer, next)
}

fn metrics(desk: &impl Desk) -> Response {
    let figures = desk.figures();
    Response::json(
        200,
        &json!({
            "cpu_usage": figures.cpu_percent,
            "memory_usage": figures.memory_percent,
            "disk_usage": figures.disk_percent,
            "network_in": figures.network_in,
            "network_out": figures.network_out,
            "timestamp": iso(figures.at),
        }),
    )
}

/// The newest log lines: those of a level and worse.
fn logs(request: &Request<'_>, desk: &impl Desk) -> Response {
    let wrong = |name: &str, rule: &str| response(400, &format!("{name} {rule}"), json!({ "field": name }));
    let least = match query_value(request.query, "level").as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("debug") => LogLevel::Debug,
        Some("info") => LogLevel::Info,
        Some("warning" | "warn") => LogLevel::Warning,
        Some("error" | "critical") => LogLevel::Error,
        Some(_) => return wrong("level", "must be debug, info, warning or error"),
    };
    let limit = query_value(request.query, "limit").map_or(Ok(LOG_LINES), |text| text.parse());
    let Some(limit) = limit.ok().filter(|limit| (1..=MOST_LOG_LINES).contains(limit)) else {
        return wrong("limit", &format!("must be a number from 1 to {MOST_LOG_LINES}"));
    };
    let line = |line: LogLine| {
        let level = match line.level {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
        };
        json!({"timestamp": iso(line.at), "level": level, "message": line.message, "component": line.component})
    };
    // The newest of them, as far as there is room.
    let mut lines = Filling::of(limit);
    let _ = desk.logs(least, limit).into_iter().rev().map(line).all(|line| lines.take(&line));
    let mut lines = lines.items();
    lines.reverse();
    Response::json(200, &json!({ "logs": lines }))
}

#[cfg(test)]
mod tests;
