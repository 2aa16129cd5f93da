//! Lists: pages of documents, filtered and sorted as the query says (notes §10).

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::Failure;
use crate::rest::{Request, Response};
use crate::session::query_value;

/// Most documents of one page.
const MOST: usize = 200;

/// A number of the query, at least 1.
pub(super) fn number(request: &Request<'_>, name: &str, otherwise: usize) -> Result<usize, Failure> {
    let Some(text) = query_value(request.query, name).filter(|text| !text.is_empty()) else {
        return Ok(otherwise);
    };
    let number = text.parse::<usize>().ok().filter(|n| *n > 0);
    number.ok_or_else(|| Failure::invalid(format!("{name} must be a whole number of at least 1")))
}

/// How many documents a page has.
pub(super) fn limit(request: &Request<'_>, otherwise: usize) -> Result<usize, Failure> {
    number(request, "limit", otherwise).map(|limit| limit.min(MOST))
}

fn object(request: &Request<'_>, name: &str) -> Result<Map<String, Value>, Failure> {
    let Some(text) = query_value(request.query, name).filter(|text| !text.is_empty()) else {
        return Ok(Map::new());
    };
    serde_json::from_str(&text).map_err(|_| Failure::invalid(format!("{name} must be a JSON object")))
}

/// A member of a document; dots lead into objects.
fn at<'a>(document: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(document, |value, name| value.get(name)).unwrap_or(&Value::Null)
}

fn compared(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default())
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

/// Whether a document has what a filter wants: each member equal, or one of a list's items.
fn fits(document: &Value, filter: &Map<String, Value>) -> bool {
    filter.iter().all(|(path, wanted)| {
        let value = at(document, path);
        value == wanted || value.as_array().is_some_and(|items| items.contains(wanted))
    })
}

/// The page of `documents` that the query asks for.
pub(super) fn page(request: &Request<'_>, mut documents: Vec<Value>) -> Result<Response, Failure> {
    let (page, limit) = (number(request, "page", 1)?, limit(request, 10)?);
    let (filter, sort) = (object(request, "filter")?, object(request, "sort")?);
    documents.retain(|document| fits(document, &filter));
    documents.sort_by(|a, b| {
        let by = |(path, direction): (&String, &Value)| {
            let downward = direction.as_i64().is_some_and(|n| n < 0) || direction == "desc";
            let order = compared(at(a, path), at(b, path));
            if downward { order.reverse() } else { order }
        };
        sort.iter().map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    let total = documents.len();
    let data: Vec<Value> =
        documents.into_iter().skip(page.saturating_sub(1).saturating_mul(limit)).take(limit).collect();
    Ok(Response::json(
        200,
        &json!({
            "data": data,
            "pagination": { "page": page, "limit": limit, "total": total },
            "statistics": { "total": total },
        }),
    ))
}
