//! `POST /auth/token` (Open-A.G.I API, Authentication; notes §8): a token for a node, off loopback for one that proves its key.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roundtable_core::cluster::NodeKeySet;
use roundtable_core::command::Command;
use roundtable_core::error::ErrorKind;
use roundtable_core::ids::{NodeId, Principal};
use roundtable_core::names;
use roundtable_core::state::State;
use roundtable_core::time::Offset;
use roundtable_core::users::Incarnation;
use serde_json::{Map, Value, json};

use crate::iso::iso;
use crate::open_agi::errors::{of_engine, response};
use crate::rest::{Desk, KeyProof, Limited, Request, Response, TokenOrder, Unproven, network_of};
use crate::session::{Ask, Credential, Family, Identity, Token};

/// A token for a node: at once on a loopback listener, elsewhere for whoever signs a challenge with the key that the node id
/// belongs to.
pub async fn issue(request: &Request<'_>, desk: &impl Desk) -> Response {
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(request.body) else {
        return response(400, "The body must be a JSON object", Value::Null);
    };
    let missing =
        |name: &str| response(400, &format!("{name} must be a non-empty string"), json!({"field": name}));
    let Some(node_id) = text(&body, "node_id") else { return missing("node_id") };
    let Some(public_key) = text(&body, "public_key") else { return missing("public_key") };
    let node = match NodeId::new(node_id) {
        Ok(node) => node,
        Err(error) => return of_engine(&error),
    };
    if node.as_str() == desk.figures().node {
        return response(403, "This id belongs to the server", json!({"field": "node_id"}));
    }
    let state = desk.state(&desk.default_workspace());
    let taken = |state: &State| match state.bearer_of(node_id) {
        Some(Principal::Node(_)) => false,
        bearer => bearer.is_some() || names::is_reserved(state, node_id),
    };
    if state.is_some_and(|state| taken(&state)) {
        return response(403, "This id belongs to somebody else", json!({"field": "node_id"}));
    }
    let mut incarnation = Incarnation::default();
    if !request.anonymous {
        match prove((&node, public_key), &body, request.peer, desk).await {
            Ok(approved) => incarnation.born = approved.unwrap_or_default(),
            Err(refusal) => return refusal,
        }
    }
    let order = TokenOrder {
        family: Family::OpenAgi,
        subject: Principal::Node(node),
        incarnation,
        workspace: desk.default_workspace(),
        ttl_s: desk.lifetime_s(Family::OpenAgi),
        claims: json!({"roles": ["node"]}),
    };
    match desk.issue(order) {
        Ok(issued) => Response::json(
            200,
            &json!({
                "token": issued.token,
                "token_type": "bearer",
                // Tokens end at a whole second.
                "expires_in": (issued.expires_at.since(desk.now()).max(0) + 999) / 1000,
                "expires_at": iso(issued.expires_at),
                "node_id": node_id,
            }),
        ),
        Err(error) => of_engine(&error),
    }
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// So many bytes in base64; padding may be left out.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut padded = text.trim_end_matches('=').to_owned();
    padded.extend(std::iter::repeat_n('=', padded.len().wrapping_neg() % 4));
    STANDARD.decode(padded).ok()?.try_into().ok()
}

/// Lets a node through that has the key its id belongs to, and binds the id to the first one that was proved; says where the
/// operator's approval is, if there is one. Else the answer that says what is wanted.
async fn prove(
    (node, public_key): (&NodeId, &str),
    body: &Map<String, Value>,
    peer: IpAddr,
    desk: &impl Desk,
) -> Result<Option<Offset>, Response> {
    desk.spend(Limited::NodeProofs, peer).map_err(|ms| {
        let answer = response(429, "Too many nodes of this network ask for tokens", Value::Null);
        answer.header("Retry-After", ms.div_ceil(1000).max(1).to_string())
    })?;
    let Some(key) = bytes::<32>(public_key) else {
        let message = "public_key must be the 32 bytes of an Ed25519 key in base64";
        return Err(response(400, message, json!({"field": "public_key"})));
    };
    let encoded = STANDARD.encode(key);
    let workspace = desk.default_workspace();
    let state = desk.state(&workspace);
    let state = state.ok_or_else(|| response(503, "The workspace is not available", Value::Null))?;
    match state.node_key(node) {
        Some(bound) if bound != encoded => return Err(foreign(node)),
        None if desk.approves_nodes() => {
            let details = json!({"node_id": node.as_str(), "public_key": encoded});
            return Err(response(403, "The operator has not approved this key", details));
        }
        _ => {}
    }
    let challenged = |message: &str| {
        let (challenge, until) = desk.challenge(node, &key);
        response(401, message, json!({"challenge": challenge, "expires_at": iso(until)}))
    };
    let (Some(challenge), Some(signature)) = (text(body, "challenge"), text(body, "signature")) else {
        return Err(challenged("Sign the challenge with this key"));
    };
    let Some(signature) = bytes::<64>(signature) else {
        let message = "signature must be the 64 bytes of an Ed25519 signature in base64";
        return Err(response(400, message, json!({"field": "signature"})));
    };
    let proof = KeyProof { node, key: &key, challenge, signature: &signature };
    desk.proves(&proof).map_err(|unproven| match unproven {
        Unproven::Challenge => challenged("The challenge is not a present one of this node and key"),
        Unproven::Signature => challenged("The signature is not this key's"),
        Unproven::Busy => {
            response(503, "Too many nodes ask for tokens", Value::Null).header("Retry-After", "60")
        }
    })?;
    let state = bind(node, encoded, network_of(peer), desk).await?;
    Ok(state.node_binding(node).and_then(|bound| bound.approved))
}

fn foreign(node: &NodeId) -> Response {
    response(403, "This node id belongs to another key", json!({"node_id": node.as_str()}))
}

/// The rules have the last word: of two first keys at once, one is the first.
async fn bind(node: &NodeId, key: String, from: IpAddr, desk: &impl Desk) -> Result<Arc<State>, Response> {
    let who = Identity {
        workspace: desk.default_workspace(),
        principal: Principal::Node(node.clone()),
        credential: Credential::Secret,
        incarnation: Incarnation::default(),
        expires_at: None,
    };
    let from = Some(from.to_string());
    let command = Command::SetNodeKey(NodeKeySet { node: node.clone(), key: Some(key), from });
    match desk.ask(&who, Ask::new(Token(0), command)).await {
        Ok((_, state)) => Ok(state),
        Err(error) if error.kind == ErrorKind::Forbidden => Err(foreign(node)),
        Err(error) => Err(of_engine(&error)),
    }
}
