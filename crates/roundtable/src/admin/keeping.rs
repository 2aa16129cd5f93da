//! Keeping the log, by the operator: checking it, copying it.

use std::path::PathBuf;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::Response;
use roundtable_core::error::Error;
use roundtable_core::ids::WorkspaceId;

use crate::admin::answer::{Refused, body, json_response};
use crate::admin::asked::Asked;
use crate::admin::wire::{Backup, Broken, Checked, OnlyWorkspace, Verification};
use crate::admin::{Desk, Office, Whole};

/// `POST /verify`: of all workspaces, or of the one that the query names.
pub async fn verify<O: Office>(
    Desk(admin): Desk<O>,
    Asked(OnlyWorkspace { workspace }): Asked<OnlyWorkspace>,
) -> Result<Response, Refused> {
    let found = admin.office.verify(workspace.map(|_| admin.office.workspace())).await?;
    let doubles = |workspace: &WorkspaceId| {
        let state = admin.office.within(workspace).map(|office| office.state());
        state.map(|state| state.doubles().map(str::to_owned).collect()).unwrap_or_default()
    };
    let checked = found.into_iter().map(|(workspace, verified)| Checked {
        doubles: doubles(&workspace),
        workspace: workspace.to_string(),
        sound: verified.sound,
        broken: verified.broken.map(|(offset, reason)| Broken { offset: offset.0, reason }),
    });
    Ok(json_response(200, &Verification { workspaces: checked.collect() }))
}

/// `POST /backup`.
pub async fn backup<O: Office>(Shared(admin): Whole<O>, bytes: Bytes) -> Result<Response, Refused> {
    let wanted: Backup = body(&bytes)?;
    let file = PathBuf::from(&wanted.file);
    if !file.is_absolute() {
        return Err(Error::invalid("file", "must be an absolute path on the server's machine").into());
    }
    admin.office.backup(file).await?;
    Ok(json_response(201, &wanted))
}
