//! Accounts: registration where it is open, and login (MXF notes §10).

use roundtable_core::command::Command;
use roundtable_core::error::ErrorKind;
use roundtable_core::ids::{Principal, UserId, WorkspaceId};
use roundtable_core::names;
use roundtable_core::users::{Incarnation, UserAdded, UserRole};
use serde_json::{Value, json};

use super::super::members;
use super::{Answer, Answered, Failure, fields, identify};
use crate::rest::{Desk, Request, TokenOrder};
use crate::session::{Ask, Credential, Credentials, Family, Identity, Proof, Refusal, Token};

/// Roles that a registration may name; all of them make an ordinary account. Nobody registers into any other.
const ORDINARY: [&str; 4] = ["user", "consumer", "provider", "viewer"];

/// `{username, email, password, role?}`. Open where credentials may be left out; elsewhere somebody who runs the workspace
/// registers others.
pub(super) async fn register(request: &Request<'_>, desk: &impl Desk) -> Answered {
    let fields = fields(request)?;
    let user = fields.id("username", UserId::new)?;
    fields.words("email")?;
    let password =
        fields.text("password", usize::MAX)?.ok_or_else(|| fields.wrong("password", "is required"))?;
    if fields.words("role")?.is_some_and(|role| !ORDINARY.contains(&role.as_str())) {
        return Err(Failure::new(403, "Nobody registers into this role"));
    }
    let workspace = desk.default_workspace();
    if desk.state(&workspace).is_some_and(|state| names::is_reserved(&state, user.as_str())) {
        return Err(Failure::new(409, format!("{user} is a name of the server's own")));
    }
    let by = registrar(request, desk, fields.loose("domainKey")).await?;
    let hash = desk.hash_secret(password.into_owned()).await?;
    let added = UserAdded { user: user.clone(), role: UserRole::Viewer, password: Some(hash) };
    match desk.ask(&by, Ask::new(Token(0), Command::AddUser(added))).await {
        Ok((_, state)) => {
            let subject = Principal::User(user);
            let incarnation = state.incarnation(&subject).unwrap_or_default();
            session(desk, (subject, incarnation, &by.workspace), (201, "Account was registered"))
        }
        Err(error) if error.kind == ErrorKind::Conflict => {
            Err(Failure::new(409, format!("User {user} already exists")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Who makes the account, and where.
async fn registrar(
    request: &Request<'_>,
    desk: &impl Desk,
    domain_key: Option<String>,
) -> Result<Identity, Failure> {
    if !request.anonymous {
        return match identify(request, desk).await {
            Err(failure) if failure.status == 401 && request.authorization.is_none() => {
                Err(Failure::new(403, "Registration is by invitation"))
            }
            other => other,
        };
    }
    let workspace = match domain_key {
        None => desk.default_workspace(),
        Some(key) => {
            let anybody = Credentials { domain_key: Some(key), proof: Proof::Guest(None) };
            desk.identify(anybody, request.peer).await?.workspace
        }
    };
    let (principal, credential) = (Principal::System, Credential::Guest);
    let incarnation = Incarnation::default();
    Ok(Identity { workspace, principal, credential, incarnation, expires_at: None })
}

/// `{username, password, domainKey?}`.
pub(super) async fn login(request: &Request<'_>, desk: &impl Desk) -> Answered {
    let fields = fields(request)?;
    let text = |name: &'static str| {
        let text = fields.text(name, usize::MAX)?.ok_or_else(|| fields.wrong(name, "is required"))?;
        Ok::<String, Failure>(text.into_owned())
    };
    let proof = Proof::Password { username: text("username")?, password: text("password")? };
    let who =
        desk.identify(Credentials { domain_key: fields.loose("domainKey"), proof }, request.peer).await?;
    session(desk, (who.principal, who.incarnation, &who.workspace), (200, "Logged in"))
}

/// The account and a token for it.
fn session(
    desk: &impl Desk,
    (subject, incarnation, workspace): (Principal, Incarnation, &WorkspaceId),
    (status, message): (u16, &str),
) -> Answered {
    let user = subject.user().ok_or(Refusal::Invalid)?;
    let role = desk.state(workspace).and_then(|state| state.user(user).map(|user| user.role));
    let role = match role.unwrap_or_default() {
        UserRole::Owner => "admin",
        UserRole::Editor => "provider",
        UserRole::Viewer => "consumer",
    };
    let token = desk.issue(TokenOrder {
        family: Family::Mxf,
        subject: subject.clone(),
        incarnation,
        workspace: workspace.clone(),
        ttl_s: desk.lifetime_s(Family::Mxf),
        claims: json!({"userId": user.as_str(), "username": user.as_str()}),
    })?;
    let user = user.as_str();
    let shown: Value = json!({
        "message": message,
        "user": {"id": user, "userId": user, "username": user, "role": role},
        "token": token.token,
    });
    Ok(Answer(status, members(shown)))
}
