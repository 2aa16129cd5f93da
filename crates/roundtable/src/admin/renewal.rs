//! New secrets of the installation's own, for the operator: the admin token, domain keys.

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::Response;
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::answer::{Refused, body, json_response};
use crate::admin::{Desk, Office, Whole};
use crate::auth::keys;

/// Body and answer of `POST /admin-token`: the present one, shown once more; then the new one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminToken {
    /// The token.
    pub admin_token: String,
}

/// Body of `POST /domain-key`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewDomainKey {}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenewedDomainKey {
    /// Whose.
    pub workspace: String,
    /// The new key, shown this once.
    pub domain_key: String,
}

/// `POST /admin-token`: the old one opens nothing from now on. `credentials.json` gets the new one, where it is kept.
pub async fn admin_token<O: Office>(Shared(admin): Whole<O>, bytes: Bytes) -> Result<Response, Refused> {
    let AdminToken { admin_token } = body(&bytes)?;
    if !admin.secrets.is_admin(&admin_token) {
        return Err(Error::forbidden("admin_token must be the present one").into());
    }
    let secrets = admin.secrets.clone();
    let written = tokio::task::spawn_blocking(move || secrets.renew_admin_token()).await;
    let unwritten = |why: String| Error::new(ErrorKind::Unavailable, format!("nothing was changed: {why}"));
    match written {
        Ok(Ok(admin_token)) => Ok(json_response(201, &AdminToken { admin_token })),
        Ok(Err(error)) => Err(unwritten(error.to_string()).into()),
        Err(error) => Err(unwritten(error.to_string()).into()),
    }
}

/// `POST /domain-key`: who comes with the old one is not let in from now on; who is in stays.
pub async fn domain_key<O: Office>(Desk(admin): Desk<O>, bytes: Bytes) -> Result<Response, Refused> {
    let RenewDomainKey {} = body(&bytes)?;
    let domain_key = keys::draw_secret();
    admin.command(Command::SetDomainKey(keys::sha256_hex(domain_key.as_bytes()))).await?;
    if admin.office.is_default() {
        let key = domain_key.clone();
        admin.note(move |credentials| credentials.domain_key = key).await;
    }
    let workspace = admin.office.workspace().to_string();
    Ok(json_response(201, &RenewedDomainKey { workspace, domain_key }))
}
