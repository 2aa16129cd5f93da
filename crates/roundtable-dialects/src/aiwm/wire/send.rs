//! `message:send`: its fields, what is wrong with them, and what of them is kept (notes §5).

use roundtable_core::ids::ClientId;
use roundtable_core::json::Json;
use roundtable_core::messages::{MessageKind, Role};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::text;

/// A message that somebody wants to send, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Send {
    /// Where to, if it says.
    pub conversation: Option<String>,
    /// Whose part it plays.
    pub role: Role,
    /// What kind it is.
    pub kind: MessageKind,
    /// The words, not empty.
    pub content: String,
    /// Everything that is kept as it came: an object, without what is absent.
    pub parts: Json,
    /// `usage.totalTokens`, or 0.
    pub tokens: u64,
    /// The message it answers.
    pub parent: Option<String>,
    /// Who the sender says it is; to be compared, never believed.
    pub participant: Option<String>,
    /// The sender's own name for it.
    pub client: Option<ClientId>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    conversation_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_results: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    latency: Option<&'a RawValue>,
    #[serde(borrow)]
    attachments: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    parent_id: Option<&'a RawValue>,
    #[serde(borrow)]
    participant_id: Option<&'a RawValue>,
    #[serde(borrow)]
    client_message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
}

/// Reads and checks a payload. `files` allows attachments that carry their bytes (notes §9). Fails with the text for the client.
pub fn read(data: Option<&RawValue>, files: bool) -> Result<Send, String> {
    let fields: Fields<'_> = data.map(|raw| super::object(raw.get())).transpose()?.unwrap_or_default();
    let role = role(text("role", fields.role).ok().flatten())?;
    let content = text("content", fields.content)?.filter(|text| !text.is_empty());
    let content = content.ok_or("Validation error: content is required")?;
    let kind = kind(text("type", fields.kind)?)?;
    check(fields.thinking, "thinking", thinking)?;
    check(fields.tool_calls, "toolCalls", tool_calls)?;
    check(fields.tool_results, "toolResults", tool_results)?;
    let usage = check(fields.usage, "usage", usage)?;
    check(fields.latency, "latency", |value, path| Shape::Count.check(value, path))?;
    let client = text("clientMessageId", fields.client_message_id)?;
    let client = client.map(|id| {
        ClientId::new(&id).map_err(|_| "Validation error: clientMessageId must have 1 to 256 bytes")
    });
    let send = Send {
        conversation: text("conversationId", fields.conversation_id)?.filter(|id| !id.is_empty()),
        role,
        kind,
        content,
        tokens: usage.and_then(|usage| usage.get("totalTokens").and_then(whole)).unwrap_or(0),
        parent: text("parentId", fields.parent_id)?.filter(|id| !id.is_empty()),
        participant: text("participantId", fields.participant_id)?,
        client: client.transpose()?,
        parts: kept(&fields)?,
    };
    check(fields.attachments, "attachments", |value, _| attachments(value, files))?;
    Ok(send)
}

fn role(text: Option<String>) -> Result<Role, String> {
    match text.as_deref() {
        Some("user") => Ok(Role::User),
        Some("assistant") => Ok(Role::Assistant),
        Some("system") => Ok(Role::System),
        Some("tool") => Ok(Role::Tool),
        _ => Err("Validation error: role must be one of user, assistant, system, tool".into()),
    }
}

fn kind(text: Option<String>) -> Result<MessageKind, String> {
    match text.as_deref() {
        None | Some("text" | "message") => Ok(MessageKind::Text),
        Some("thinking") => Ok(MessageKind::Thinking),
        Some("tool_call") => Ok(MessageKind::ToolCall),
        Some("tool_result") => Ok(MessageKind::ToolResult),
        Some("error") => Ok(MessageKind::Error),
        Some("system") => Ok(MessageKind::System),
        Some(_) => {
            Err("Validation error: type must be one of text, thinking, tool_call, tool_result, error, system"
                .into())
        }
    }
}

/// The members that travel with the message, each exactly as it was written.
fn kept(fields: &Fields<'_>) -> Result<Json, String> {
    let texts =
        [("error", fields.error), ("name", fields.name), ("clientMessageId", fields.client_message_id)];
    for (field, raw) in texts {
        text(field, raw)?;
    }
    let rich = [
        ("thinking", fields.thinking),
        ("toolCalls", fields.tool_calls),
        ("toolResults", fields.tool_results),
        ("usage", fields.usage),
        ("latency", fields.latency),
        ("attachments", fields.attachments),
    ];
    let mut object = String::from("{");
    for (field, raw) in rich.into_iter().chain(texts) {
        let Some(raw) = raw else { continue };
        if object.len() > 1 {
            object.push(',');
        }
        object.push_str(&format!("\"{field}\":{}", raw.get()));
    }
    object.push('}');
    Json::parse(&object).map_err(|e| format!("Validation error: {e}"))
}

/// Reads a field deeply enough to check it; `None` if it is absent.
fn check(
    raw: Option<&RawValue>,
    field: &str,
    rule: impl FnOnce(&Value, &str) -> Result<(), String>,
) -> Result<Option<Value>, String> {
    let Some(raw) = raw else { return Ok(None) };
    let value: Value = serde_json::from_str(raw.get())
        .map_err(|_| format!("Validation error: {field} must not be nested deeper than 128"))?;
    rule(&value, field)?;
    Ok(Some(value))
}

#[derive(Clone, Copy)]
enum Shape {
    Text,
    Number,
    Count,
    Flag,
    Any,
}

impl Shape {
    fn check(self, value: &Value, path: &str) -> Result<(), String> {
        let (fits, rule) = match self {
            Self::Text => (value.is_string(), "must be a string"),
            Self::Number => (value.is_number(), "must be a number"),
            Self::Count => (value.as_f64().is_some_and(|n| n >= 0.0), "must be a number of at least 0"),
            Self::Flag => (value.is_boolean(), "must be a boolean"),
            Self::Any => (true, ""),
        };
        if fits { Ok(()) } else { Err(format!("Validation error: {path} {rule}")) }
    }
}

/// An object with these members, each required or not.
fn object(value: &Value, path: &str, members: &[(&str, Shape, bool)]) -> Result<(), String> {
    let Some(map) = value.as_object() else {
        return Err(format!("Validation error: {path} must be an object"));
    };
    for (name, shape, required) in members {
        match map.get(*name) {
            Some(Value::Null) | None if !required => {}
            None => return Err(format!("Validation error: {path}.{name} is required")),
            Some(member) => shape.check(member, &format!("{path}.{name}"))?,
        }
    }
    Ok(())
}

fn thinking(value: &Value, path: &str) -> Result<(), String> {
    let members =
        [("content", Shape::Text, true), ("visible", Shape::Flag, true), ("duration", Shape::Number, true)];
    object(value, path, &members)
}

fn usage(value: &Value, path: &str) -> Result<(), String> {
    object(
        value,
        path,
        &["promptTokens", "completionTokens", "totalTokens"].map(|name| (name, Shape::Count, true)),
    )
}

fn list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], String> {
    let items = value.as_array().map(Vec::as_slice);
    items.ok_or_else(|| format!("Validation error: {path} must be an array"))
}

fn tool_calls(value: &Value, path: &str) -> Result<(), String> {
    for (n, call) in list(value, path)?.iter().enumerate() {
        let path = format!("{path}[{n}]");
        object(
            call,
            &path,
            &[("id", Shape::Text, true), ("type", Shape::Text, true), ("function", Shape::Any, true)],
        )?;
        let function = call.get("function").unwrap_or(&Value::Null);
        let members = [("name", Shape::Text, true), ("arguments", Shape::Text, true)];
        object(function, &format!("{path}.function"), &members)?;
    }
    Ok(())
}

fn tool_results(value: &Value, path: &str) -> Result<(), String> {
    let members = [
        ("toolCallId", Shape::Text, true),
        ("toolName", Shape::Text, true),
        ("result", Shape::Any, false),
        ("success", Shape::Flag, true),
        ("error", Shape::Text, false),
        ("executionTime", Shape::Number, false),
    ];
    list(value, path)?
        .iter()
        .enumerate()
        .try_for_each(|(n, result)| object(result, &format!("{path}[{n}]"), &members))
}

/// Most attachments that carry their bytes in one message (notes §9).
const MAX_FILES: usize = 5;

fn attachments(value: &Value, files: bool) -> Result<(), String> {
    let items = list(value, "attachments")?;
    let is_file = |item: &Value| {
        let text = |name| item.get(name).is_some_and(Value::is_string);
        text("name") && text("type") && text("data") && item.get("size").is_some_and(Value::is_number)
    };
    let is_link = |text: &str| {
        let rest = ["https://", "http://", "document:"].iter().find_map(|start| text.strip_prefix(start));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
    };
    let fits = |item: &&Value| item.as_str().is_some_and(is_link) || (files && is_file(item));
    let bad: Vec<String> = items
        .iter()
        .filter(|item| !fits(item))
        .map(|item| {
            let shown = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            shown.chars().take(100).collect()
        })
        .collect();
    if !bad.is_empty() {
        return Err(format!("Invalid attachments: {}", bad.join(", ")));
    }
    if items.iter().filter(|item| item.is_object()).count() > MAX_FILES {
        return Err(format!("Invalid attachments: more than {MAX_FILES} files"));
    }
    Ok(())
}

fn whole(number: &Value) -> Option<u64> {
    number.as_u64().or_else(|| number.as_f64().map(|n| n as u64))
}

#[cfg(test)]
mod tests {
    use roundtable_core::messages::{MessageKind, Role};
    use serde_json::value::RawValue;

    use super::read;

    fn try_read(text: &str) -> Result<super::Send, String> {
        read(Some(&RawValue::from_string(text.into()).unwrap()), false)
    }

    #[test]
    fn everything_rich_is_kept_as_it_was_written() {
        let send = try_read(
            r#"{"role":"assistant","content":"hi","type":"tool_call","conversationId":"c","parentId":"p",
            "toolCalls":[{"id":"1","type":"mcp_tool","function":{"name":"f","arguments":"{\"a\":1.0}"}}],
            "usage":{"promptTokens":450,"completionTokens":120,"totalTokens":570},"latency":2.50,"strange":1,
            "clientMessageId":"k","status":"failed","thinking":null}"#,
        )
        .unwrap();
        assert_eq!((send.role, send.kind, send.tokens), (Role::Assistant, MessageKind::ToolCall, 570));
        assert_eq!(send.client.unwrap().as_str(), "k");
        assert_eq!(
            send.parts.as_str(),
            r#"{"toolCalls":[{"id":"1","type":"mcp_tool","function":{"name":"f","arguments":"{\"a\":1.0}"}}],"usage":{"promptTokens":450,"completionTokens":120,"totalTokens":570},"latency":2.50,"clientMessageId":"k"}"#
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (r#"{"content":"x"}"#, "Validation error: role must be one of user, assistant, system, tool"),
            (
                r#"{"role":"agent","content":"x"}"#,
                "Validation error: role must be one of user, assistant, system, tool",
            ),
            (
                r#"{"role":3,"content":"x"}"#,
                "Validation error: role must be one of user, assistant, system, tool",
            ),
            (r#"{"role":"user"}"#, "Validation error: content is required"),
            (r#"{"role":"user","content":""}"#, "Validation error: content is required"),
            (r#"{"role":"user","content":5}"#, "Validation error: content must be a string"),
            (
                r#"{"role":"user","content":"x","type":"song"}"#,
                "Validation error: type must be one of text, thinking, tool_call, tool_result, error, system",
            ),
            (
                r#"{"role":"user","content":"x","latency":-1}"#,
                "Validation error: latency must be a number of at least 0",
            ),
            (
                r#"{"role":"user","content":"x","thinking":{"content":"t","visible":true}}"#,
                "Validation error: thinking.duration is required",
            ),
            (
                r#"{"role":"user","content":"x","toolCalls":[{"id":"1","type":"t","function":{"name":"f"}}]}"#,
                "Validation error: toolCalls[0].function.arguments is required",
            ),
            (
                r#"{"role":"user","content":"x","toolResults":[{"toolCallId":"1","toolName":"t","success":"yes"}]}"#,
                "Validation error: toolResults[0].success must be a boolean",
            ),
            (
                r#"{"role":"user","content":"x","usage":{"promptTokens":"1","completionTokens":1,"totalTokens":1}}"#,
                "Validation error: usage.promptTokens must be a number of at least 0",
            ),
            (
                r#"{"role":"user","content":"x","attachments":"a"}"#,
                "Validation error: attachments must be an array",
            ),
            (
                r#"{"role":"user","content":"x","attachments":["https://a/b","ftp://c","document:"]}"#,
                "Invalid attachments: ftp://c, document:",
            ),
            ("{}", "Validation error: role must be one of user, assistant, system, tool"),
            ("[]", "Validation error: the payload must be an object"),
            (
                r#"{"role":"user","content":"a","content":"b"}"#,
                "Validation error: the payload is not as expected: duplicate field `content`",
            ),
            (r#""x""#, "Validation error: the payload must be an object"),
        ];
        for (payload, expected) in cases {
            assert_eq!(try_read(payload).unwrap_err(), expected, "{payload}");
        }
    }

    #[test]
    fn files_are_taken_where_they_are_allowed_and_only_five() {
        let file = r#"{"name":"a.txt","type":"text/plain","size":1,"data":"YQ=="}"#;
        let payload = |n: usize| {
            let files = vec![file; n].join(",");
            RawValue::from_string(format!(r#"{{"role":"user","content":"x","attachments":[{files}]}}"#))
                .unwrap()
        };
        assert!(read(Some(&payload(5)), true).is_ok());
        assert!(read(Some(&payload(6)), true).unwrap_err().starts_with("Invalid attachments"));
        assert!(read(Some(&payload(1)), false).unwrap_err().starts_with("Invalid attachments"));
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_an_error_and_no_crash() {
        let deep = format!(
            r#"{{"role":"tool","content":"x","toolResults":[{{"toolCallId":"1","toolName":"t","success":true,"result":{}1{}}}]}}"#,
            "[".repeat(5_000),
            "]".repeat(5_000)
        );
        assert_eq!(
            try_read(&deep).unwrap_err(),
            "Validation error: toolResults must not be nested deeper than 128"
        );
    }
}
