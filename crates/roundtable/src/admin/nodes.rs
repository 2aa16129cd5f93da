//! Node ids and the keys they belong to, for the operator.

use axum::body::Bytes;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roundtable_core::cluster::{NodeKey, NodeKeySet};
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::NodeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::answer::{Refused, body, json_response};
use crate::admin::asked::{Asked, Named};
use crate::admin::pages::PageQuery;
use crate::admin::{Desk, Office};

/// Answer of `GET /nodes`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BoundNodes {
    /// By id.
    pub nodes: Vec<BoundNode>,
    /// What the next page comes after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A node id and its key: in a list, and the answer of `POST /nodes` and `DELETE /nodes/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BoundNode {
    /// The id.
    pub node_id: String,
    /// Its Ed25519 key in base64; `null` once it has none.
    pub public_key: Option<String>,
    /// The operator bound it. One that a node bound by itself ends 30 days after it was proved last.
    #[serde(default)]
    pub approved: bool,
}

/// Body of `POST /nodes`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BindNode {
    /// The id.
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub node_id: String,
    /// An Ed25519 key: 32 bytes in base64.
    #[schema(pattern = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")]
    pub public_key: String,
}

/// `GET /nodes`.
pub async fn list<O: Office>(
    Desk(admin): Desk<O>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let (state, after) = (admin.office.state(), asked.after(NodeId::new)?);
    let one = |(id, bound): (&NodeId, &NodeKey)| BoundNode {
        node_id: id.to_string(),
        public_key: Some(bound.key.clone()),
        approved: bound.approved.is_some(),
    };
    let (nodes, next) = asked.of(state.node_keys_after(after.as_ref()).map(one), |node| node.node_id.clone());
    Ok(json_response(200, &BoundNodes { nodes, next }))
}

/// `POST /nodes`: the node gets tokens with this key and no other. Tokens it has last until their end.
pub async fn bind<O: Office>(Desk(admin): Desk<O>, bytes: Bytes) -> Result<Response, Refused> {
    let wanted: BindNode = body(&bytes)?;
    let key: Option<[u8; 32]> = STANDARD.decode(&wanted.public_key).ok().and_then(|key| key.try_into().ok());
    let wrong = || Error::invalid("public_key", "must be the 32 bytes of an Ed25519 key in base64");
    set(&admin, &wanted.node_id, Some(STANDARD.encode(key.ok_or_else(wrong)?))).await
}

/// `DELETE /nodes/{id}`: the id belongs to no key any more.
pub async fn forget<O: Office>(Desk(admin): Desk<O>, Named(id): Named) -> Result<Response, Refused> {
    let node = NodeId::new(&id)?;
    if admin.office.state().node_key(&node).is_none() {
        let error = Error::new(ErrorKind::InvalidField, format!("{node} belongs to no key"));
        return Err(Refused { status: 404, error: error.field("node_id") });
    }
    set(&admin, &id, None).await
}

async fn set<O: Office>(admin: &super::Admin<O>, id: &str, key: Option<String>) -> Result<Response, Refused> {
    let node = NodeId::new(id)?;
    admin.command(Command::SetNodeKey(NodeKeySet { node, key: key.clone(), from: None })).await?;
    let approved = key.is_some();
    Ok(json_response(200, &BoundNode { node_id: id.to_owned(), public_key: key, approved }))
}
