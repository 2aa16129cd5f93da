//! Workspaces, by the operator: making them, seeing which there are.

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::Response;
use roundtable_core::ids::WorkspaceId;
use roundtable_dialects::iso::iso;

use crate::admin::answer::{Refused, body, json_response};
use crate::admin::asked::Asked;
use crate::admin::pages::PageQuery;
use crate::admin::wire::{AddWorkspace, AddedWorkspace, ListedWorkspace, ListedWorkspaces};
use crate::admin::{Office, Whole};
use crate::auth::keys;

/// `POST /workspaces`: the domain key is drawn here and kept as its hash alone.
pub async fn add<O: Office>(Shared(admin): Whole<O>, bytes: Bytes) -> Result<Response, Refused> {
    let AddWorkspace { workspace } = body(&bytes)?;
    let id = WorkspaceId::new(&workspace)?;
    let domain_key = keys::draw_secret();
    admin.office.found(id, keys::sha256_hex(domain_key.as_bytes())).await?;
    Ok(json_response(201, &AddedWorkspace { workspace, domain_key }))
}

/// `GET /workspaces`.
pub async fn list<O: Office>(
    Shared(admin): Whole<O>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let after = asked.after(WorkspaceId::new)?;
    let default = |id: &WorkspaceId| admin.office.within(id).is_some_and(|office| office.is_default());
    let all = admin.office.workspaces().into_iter();
    let mut workspaces: Vec<ListedWorkspace> = all
        .filter(|(id, _)| after.as_ref().is_none_or(|after| id > after))
        .map(|(id, state)| ListedWorkspace {
            workspace: id.to_string(),
            default: default(&id),
            users: state.users().len(),
            agents: state.agents().len(),
            rooms: state.rooms().len(),
            head: state.head.0,
            created_at: iso(state.created_at),
        })
        .collect();
    workspaces.sort_by(|a, b| a.workspace.cmp(&b.workspace));
    let (workspaces, next) = asked.of(workspaces, |one| one.workspace.clone());
    Ok(json_response(200, &ListedWorkspaces { workspaces, next }))
}
