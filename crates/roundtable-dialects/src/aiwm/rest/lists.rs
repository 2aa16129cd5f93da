//! Lists: pages of documents, filtered and sorted as the query says (notes §10). A page ends with its items or with its
//! bytes; where it ended early, the answer says where the next one begins.

use std::cmp::Ordering;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Failure;
use crate::pages::{Filling, MOST_ITEMS};
use crate::rest::{Desk, Request, Response};
use crate::session::query_value;

/// After so many steps of a list others get their turn.
const STEPS: usize = 1_000;
/// The same of steps that make a document.
const DOCUMENTS: usize = 20;
/// Characters of a text that are compared.
const COMPARED: usize = 256;

fn value(request: &Request<'_>, name: &str) -> Option<String> {
    query_value(request.query, name).filter(|text| !text.is_empty())
}

/// A number of the query, at least 1.
pub(super) fn number(request: &Request<'_>, name: &str, otherwise: usize) -> Result<usize, Failure> {
    let Some(text) = value(request, name) else { return Ok(otherwise) };
    let number = text.parse::<usize>().ok().filter(|n| *n > 0);
    number.ok_or_else(|| Failure::invalid(format!("{name} must be a whole number of at least 1")))
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The page, counted from 1.
    pub page: usize,
    /// How many documents a page has.
    pub limit: usize,
    /// How many documents come before the first one: those of the pages before, unless the query says how many.
    pub skip: usize,
    /// The query says how many.
    counted: bool,
}

impl Part {
    pub(super) fn of(request: &Request<'_>, limit: usize) -> Result<Self, Failure> {
        let page = number(request, "page", 1)?;
        let limit = number(request, "limit", limit)?.min(MOST_ITEMS);
        let counted = value(request, "skip");
        let skip = match &counted {
            None => page.saturating_sub(1).saturating_mul(limit),
            Some(text) => {
                text.parse().map_err(|_| Failure::invalid("skip must be a whole number of at least 0"))?
            }
        };
        Ok(Self { page, limit, skip, counted: counted.is_some() })
    }
}

fn object(request: &Request<'_>, name: &str) -> Result<Map<String, Value>, Failure> {
    let Some(text) = value(request, name) else { return Ok(Map::new()) };
    serde_json::from_str(&text).map_err(|_| Failure::invalid(format!("{name} must be a JSON object")))
}

/// A member of a document; dots lead into objects.
fn at<'a>(document: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(document, |value, name| value.get(name)).unwrap_or(&Value::Null)
}

/// What documents are sorted by: values of one kind by what they are, kinds in this order.
#[derive(Clone, PartialEq, Debug)]
enum Key {
    Nothing,
    Flag(bool),
    Number(f64),
    Text(String),
    List,
    Object,
}

impl Key {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(flag) => Self::Flag(*flag),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or_default()),
            Value::String(text) => Self::Text(text.chars().take(COMPARED).collect()),
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Object,
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Flag(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
            Self::List => 4,
            Self::Object => 5,
        }
    }

    fn compared(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Flag(a), Self::Flag(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Whether a document has what a filter wants: each member equal, or one of a list's items.
fn fits(document: &Value, filter: &Map<String, Value>) -> bool {
    filter.iter().all(|(path, wanted)| {
        let value = at(document, path);
        value == wanted || value.as_array().is_some_and(|items| items.contains(wanted))
    })
}

/// The part of a list that the query asks for. Documents are made of what is on the page; to filter and to sort, `sketch` makes
/// them of the others too, without what may be large.
pub(super) async fn page<'a, T: Sync + 'a>(
    request: &Request<'_>,
    desk: &impl Desk,
    all: impl Iterator<Item = &'a T> + Send,
    sketch: impl Fn(&T) -> Value + Send + Sync,
    document: impl Fn(&T) -> Value + Send + Sync,
) -> Result<Response, Failure> {
    let part = Part::of(request, 10)?;
    let (filter, sort) = (object(request, "filter")?, object(request, "sort")?);
    let plain = filter.is_empty() && sort.is_empty();
    let mut found: Vec<(Vec<Key>, &T)> = Vec::new();
    for (step, one) in all.enumerate() {
        if (step + 1) % (if plain { STEPS } else { DOCUMENTS }) == 0 {
            desk.breathe().await;
        }
        if plain {
            found.push((Vec::new(), one));
            continue;
        }
        let sketch = sketch(one);
        if fits(&sketch, &filter) {
            found.push((sort.keys().map(|path| Key::of(at(&sketch, path))).collect(), one));
        }
    }
    let down: Vec<bool> =
        sort.values().map(|way| way.as_f64().is_some_and(|n| n < 0.0) || way == "desc").collect();
    found.sort_by(|(a, _), (b, _)| {
        let by = |((a, b), down): ((&Key, &Key), &bool)| {
            if *down { b.compared(a) } else { a.compared(b) }
        };
        a.iter().zip(b).zip(&down).map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    let mut filling = Filling::of(part.limit);
    for (_, one) in found.iter().skip(part.skip).take(part.limit) {
        if !filling.take(&document(one)) {
            break;
        }
        desk.breathe().await;
    }
    Ok(Response::json(200, &listed(filling, part, found.len())))
}

#[derive(Serialize)]
struct Listed {
    data: Vec<Box<RawValue>>,
    pagination: Value,
    statistics: Value,
}

fn listed(filling: Filling, part: Part, total: usize) -> Listed {
    let mut pagination = json!({ "page": part.page, "limit": part.limit, "total": total });
    if let (Some(next), Some(members)) = (next(&filling, part, total), pagination.as_object_mut()) {
        members.insert("next".into(), next.into());
    }
    Listed { data: filling.items(), pagination, statistics: json!({ "total": total }) }
}

/// The `skip` of what comes next, where the number of the next page does not say it: behind a page that ended before its last
/// item, and for whoever counts documents.
pub(super) fn next(filling: &Filling, part: Part, total: usize) -> Option<usize> {
    let end = part.skip.saturating_add(filling.len());
    (end < total && (part.counted || filling.len() < part.limit)).then_some(end)
}

/// A bare list, and in the `Link` header what comes after it.
pub(super) fn bare(request: &Request<'_>, items: &[Box<RawValue>], next: Option<String>) -> Response {
    let response = Response::json(200, &items);
    match next {
        None => response,
        Some(next) => {
            let others = request.query.split('&').filter(|pair| {
                let name = pair.split('=').next().unwrap_or_default();
                !pair.is_empty() && !["skip", "page", "before", "after"].contains(&name)
            });
            let query: Vec<&str> = others.chain([next.as_str()]).collect();
            response.header("Link", format!("<{}?{}>; rel=\"next\"", request.path, query.join("&")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Ordering, Value, json};

    #[test]
    fn any_values_have_a_total_order() {
        let values: Vec<Value> = vec![
            json!("b"),
            json!(2),
            json!(null),
            json!([1]),
            json!({"a": 1}),
            json!(true),
            json!(-1.5),
            json!("a"),
            json!(1e300),
            json!(false),
            json!([]),
            json!(9_007_199_254_740_993_u64),
        ];
        let keys: Vec<Key> = values.iter().map(Key::of).collect();
        for a in &keys {
            for b in &keys {
                assert_eq!(a.compared(b), b.compared(a).reverse());
                for c in &keys {
                    if a.compared(b) == Ordering::Less && b.compared(c) == Ordering::Less {
                        assert_eq!(a.compared(c), Ordering::Less, "{a:?} {b:?} {c:?}");
                    }
                }
            }
        }
    }
}
