//! What a request asks for besides its body, read so that what is wrong with it is said like everything else.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use roundtable_core::error::{Error, ErrorKind};
use serde::de::DeserializeOwned;

use crate::admin::answer::Refused;

/// The one parameter of the path.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let wrong = |error: PathRejection| Error::new(ErrorKind::InvalidField, error.body_text());
        let Path(name) = Path::<String>::from_request_parts(parts, state).await.map_err(wrong)?;
        Ok(Self(name))
    }
}

/// The query.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => Err(Error::new(ErrorKind::InvalidField, error.body_text()).into()),
        }
    }
}
