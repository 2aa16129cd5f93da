//! The document of the operator's interface, in the terms of OpenAPI 3.1, written from the table that the routes are mounted
//! from.

use axum::routing::MethodFilter;
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema as _, ToSchema};

use crate::admin::wire::Problem;

pub mod words;

/// The methods of the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Reads.
    Get,
    /// Makes or does something.
    Post,
    /// Changes something.
    Patch,
    /// Ends something.
    Delete,
}

impl Verb {
    /// For a router.
    pub const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// One thing that can be asked.
pub struct Call {
    /// How.
    pub verb: Verb,
    /// Where, under the base of its table; what stands in braces is a parameter.
    pub path: &'static str,
    summary: &'static str,
    query: Vec<Value>,
    body: Option<Value>,
    answer: (u16, Value),
    others: Vec<(u16, Value)>,
    refusals: Vec<u16>,
    token: bool,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// What ids look like.
const ID: &str = "^[A-Za-z0-9._:@-]{1,128}$";
/// What cursors look like. Epochs have 32 bits, offsets 64.
const CURSOR: &str = "^[0-9]{1,9}:[0-9]{1,18}$";

impl Call {
    /// Something about one workspace. What the answer looks like is still to be said.
    pub fn new(verb: Verb, path: &'static str, summary: &'static str) -> Self {
        let workspace = "The workspace it is about; without it the default one.";
        Self {
            query: vec![parameter(
                "query",
                "workspace",
                workspace,
                &json!({"type": "string", "pattern": ID}),
            )],
            refusals: vec![400, 401, 403, 404, 503],
            token: true,
            ..Self::open(verb, path, summary)
        }
    }

    /// Something about the server.
    pub fn of_server(verb: Verb, path: &'static str, summary: &'static str) -> Self {
        Self { query: Vec::new(), refusals: vec![400, 401, 403, 503], ..Self::new(verb, path, summary) }
    }

    /// Something that needs no token where the listener is on a loopback address.
    pub fn open(verb: Verb, path: &'static str, summary: &'static str) -> Self {
        Self {
            verb,
            path,
            summary,
            query: Vec::new(),
            body: None,
            answer: (200, Value::Null),
            others: Vec::new(),
            refusals: Vec::new(),
            token: false,
            schemas: Vec::new(),
        }
    }

    /// It takes a body.
    pub fn takes<T: ToSchema>(mut self) -> Self {
        self.body = Some(content("application/json", &self.known::<T>()));
        self.refuses(408).refuses(413)
    }

    /// The body has exactly one of these groups of fields.
    pub fn either(mut self, groups: &[&[&str]]) -> Self {
        let all: Vec<&str> = groups.iter().flat_map(|group| group.iter().copied()).collect();
        let group = |own: &&[&str]| {
            let field = |name: &&str| {
                let schema = if own.contains(name) { json!({"type": "string"}) } else { json!(false) };
                ((*name).to_owned(), schema)
            };
            let fields: Map<String, Value> = all.iter().map(field).collect();
            json!({"required": own, "properties": fields})
        };
        let groups: Vec<Value> = groups.iter().map(group).collect();
        if let Some(schema) =
            self.body.as_mut().and_then(|body| body.pointer_mut("/application~1json/schema"))
        {
            *schema = json!({"allOf": [schema.take(), {"oneOf": groups}]});
        }
        self
    }

    /// A good answer.
    pub fn answers<T: ToSchema>(mut self, status: u16) -> Self {
        self.answer = (status, content("application/json", &self.known::<T>()));
        self
    }

    /// An answer with another status.
    pub fn or<T: ToSchema>(mut self, status: u16) -> Self {
        let body = content("application/json", &self.known::<T>());
        self.others.push((status, body));
        self
    }

    /// A good answer that is any JSON object.
    pub fn json(self) -> Self {
        Self { answer: (200, content("application/json", &json!({"type": "object"}))), ..self }
    }

    /// A good answer that is text, or another form of the one that was said before.
    pub fn text(mut self, kind: &str) -> Self {
        let text = json!({"schema": {"type": "string"}});
        match &mut self.answer.1 {
            Value::Object(forms) => drop(forms.insert(kind.to_owned(), text)),
            answer => *answer = json!({kind: text}),
        }
        self
    }

    /// A good answer that is a line of JSON for each of these, without end.
    pub fn lines<T: ToSchema>(mut self) -> Self {
        let _ = self.known::<T>();
        self.text("application/x-ndjson")
    }

    /// Another refusal than the usual ones.
    pub fn refuses(mut self, status: u16) -> Self {
        self.refusals.push(status);
        self
    }

    /// It takes a value in its query.
    pub fn query(mut self, name: &str, text: &str, schema: &Value) -> Self {
        self.query.push(parameter("query", name, text, schema));
        self
    }

    /// It is a list that comes in pages.
    pub fn pages(self) -> Self {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": 200, "default": 200});
        self.query(
            "after",
            "Only what comes after this: the `next` of the page before.",
            &json!({"type": "string"}),
        )
        .query("limit", "At most so many.", &limit)
        .refuses(410)
    }

    /// It takes a cursor in its query.
    pub fn cursor(self, name: &str, text: &str) -> Self {
        self.query(name, text, &json!({"type": "string", "pattern": CURSOR}))
    }

    /// A reference to a type, which the document then has.
    fn known<T: ToSchema>(&mut self) -> Value {
        let name = T::name().into_owned();
        T::schemas(&mut self.schemas);
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        self.schemas.push((name, T::schema()));
        reference
    }

    fn parameters(&self) -> Vec<Value> {
        let named = self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let in_path = named.map(|name| {
            let schema = match name {
                "connection" => json!({"type": "integer", "format": "int64", "minimum": 0}),
                _ => json!({"type": "string", "pattern": ID}),
            };
            let mut parameter = parameter("path", name, "Which.", &schema);
            if let Some(members) = parameter.as_object_mut() {
                members.insert("required".into(), true.into());
            }
            parameter
        });
        in_path.chain(self.query.iter().cloned()).collect()
    }

    fn operation(&self) -> Value {
        let mut responses = Map::new();
        for status in &self.refusals {
            let refused = content("application/json", &json!({"$ref": "#/components/schemas/Problem"}));
            responses.insert(status.to_string(), json!({"description": reason(*status), "content": refused}));
        }
        let (status, body) = &self.answer;
        responses.insert(status.to_string(), json!({"description": "It is done.", "content": body}));
        for (status, body) in &self.others {
            responses.insert(status.to_string(), json!({"description": reason(*status), "content": body}));
        }
        let mut operation = Map::new();
        operation.insert("summary".into(), self.summary.into());
        operation.insert("parameters".into(), self.parameters().into());
        if let Some(body) = &self.body {
            operation.insert("requestBody".into(), json!({"required": true, "content": body}));
        }
        operation.insert("responses".into(), responses.into());
        let security =
            if self.token { json!([{"admin_token": []}]) } else { json!([{}, {"admin_token": []}]) };
        operation.insert("security".into(), security);
        operation.into()
    }
}

fn content(kind: &str, schema: &Value) -> Value {
    json!({kind: {"schema": schema}})
}

fn parameter(place: &str, name: &str, text: &str, schema: &Value) -> Value {
    json!({"in": place, "name": name, "description": text, "schema": schema})
}

const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Something in the request is not as it must be.",
        401 => "The admin token is missing or wrong.",
        403 => "It is not allowed.",
        404 => "What is named is not there.",
        408 => "The body did not come in time.",
        409 => "It is there already, or does not fit what is there.",
        410 => "The log does not hold this cursor any more, or not yet.",
        413 => "It is too large.",
        _ => "The server cannot do it at present; nothing happened.",
    }
}

/// The whole document: tables of calls, each under its base.
pub fn document(tables: &[(&str, Vec<&Call>)]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut schemas: Map<String, Value> = Map::new();
    let mut keep = |name: &str, schema: &RefOr<Schema>| {
        schemas.insert(name.to_owned(), serde_json::to_value(schema).unwrap_or_default());
    };
    keep(&Problem::name(), &Problem::schema());
    let mut parts = Vec::new();
    Problem::schemas(&mut parts);
    parts.iter().for_each(|(name, schema)| keep(name, schema));
    for (base, calls) in tables {
        for call in calls {
            call.schemas.iter().for_each(|(name, schema)| keep(name, schema));
            let item = paths.entry(format!("{base}{}", call.path)).or_insert_with(|| json!({}));
            if let Some(item) = item.as_object_mut() {
                item.insert(call.verb.key().to_owned(), call.operation());
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Roundtable, the operator's interface",
            "description": "Accounts, agents, keys, tokens, rooms, workspaces, connections, and looking on.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"admin_token": {"type": "http", "scheme": "bearer"}},
        },
    })
}
