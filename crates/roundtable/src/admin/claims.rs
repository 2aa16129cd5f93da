//! What a token says to the clients of a dialect beyond the server's own claims.

use roundtable_core::ids::{Principal, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::users::UserRole;
use roundtable_dialects::session::Family;
use serde_json::{Value, json};

const fn role_name(role: UserRole) -> &'static str {
    match role {
        UserRole::Viewer => "viewer",
        UserRole::Editor => "editor",
        UserRole::Owner => "owner",
    }
}

/// The claims of a token of `family` for `subject` (AIWM notes §2, MegaBot notes §3, Open-A.G.I notes §8, MXF notes §1).
pub fn claims(family: Family, subject: &Principal, state: &State, workspace: &WorkspaceId) -> Value {
    let role = subject.user().and_then(|id| state.user(id)).map_or(UserRole::Viewer, |user| user.role);
    let id = subject.id();
    match (family, subject) {
        (Family::Aiwm, Principal::Agent(_)) => json!({
            "username": format!("agent:{id}"), "status": "active", "roles": ["organization.viewer"],
            "orgId": workspace.as_str(), "groupId": "", "agentId": id, "userId": "", "type": "agent",
        }),
        (Family::Aiwm, _) => json!({
            "username": id, "status": "active", "roles": [format!("organization.{}", role_name(role))],
            "orgId": workspace.as_str(), "groupId": "", "agentId": "", "appId": "",
        }),
        (Family::Mxf, Principal::Agent(_)) => json!({"agentId": id}),
        (Family::Mxf, _) => json!({"userId": id}),
        (Family::OpenAgi, _) => json!({"roles": [subject.user().map_or("node", |_| role_name(role))]}),
        (Family::Login | Family::Refresh, _) => json!({"username": id, "roles": [role_name(role)]}),
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, Principal, State, WorkspaceId, claims, json};

    #[test]
    fn agents_and_users_have_the_documented_claims() {
        let of = |family, who: &str| {
            let workspace = WorkspaceId::new("default").unwrap();
            claims(family, &Principal::parse(who).unwrap(), &State::default(), &workspace)
        };
        let agent = of(Family::Aiwm, "agent:a1");
        assert_eq!(agent["type"], "agent");
        assert_eq!(agent["username"], "agent:a1");
        assert_eq!(
            (&agent["agentId"], &agent["userId"], &agent["orgId"]),
            (&json!("a1"), &json!(""), &json!("default"))
        );
        let user = of(Family::Aiwm, "user:ann");
        assert_eq!(user["roles"], json!(["organization.viewer"]));
        assert!(user.get("type").is_none() && user["agentId"] == "", "an agentId would make it an agent");
        assert_eq!(of(Family::Mxf, "user:ann"), json!({"userId": "ann"}));
        assert_eq!(of(Family::OpenAgi, "node:n"), json!({"roles": ["node"]}));
        assert_eq!(of(Family::Login, "user:ann")["username"], "ann");
    }
}
