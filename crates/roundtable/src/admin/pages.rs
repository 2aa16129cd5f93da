//! Pages of the operator's lists: at most so many items and bytes, and what the next page comes after.

use roundtable_core::error::{Error, ErrorKind};
use roundtable_dialects::pages::{Filling, MOST_ITEMS};
use serde::{Deserialize, Serialize};

use crate::admin::answer::Refused;

/// What of a list is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct PageQuery {
    /// The workspace it is about, if it is about one.
    pub workspace: Option<String>,
    /// Only what comes after this: the `next` of the page before.
    pub after: Option<String>,
    /// At most so many, 1 to 200.
    pub limit: Option<usize>,
}

impl PageQuery {
    /// What the page comes after, read as an id.
    pub fn after<T>(&self, read: impl FnOnce(&str) -> Result<T, Error>) -> Result<Option<T>, Error> {
        let unknown = |_| Error::new(ErrorKind::CannotResume, "after must be the next of another page");
        self.after.as_deref().map(read).transpose().map_err(unknown)
    }

    /// What the page comes after, read as a number.
    pub fn after_number(&self) -> Result<Option<u64>, Error> {
        self.after(|text| {
            text.parse().map_err(|_| Error::invalid("after", "must be the next of another page"))
        })
    }

    /// The page of what comes after it, and what the next page comes after, if there is one.
    pub fn of<T: Serialize>(
        &self,
        items: impl IntoIterator<Item = T>,
        key: impl FnOnce(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>), Refused> {
        let limit = self.limit.unwrap_or(MOST_ITEMS);
        if !(1..=MOST_ITEMS).contains(&limit) {
            return Err(Error::invalid("limit", "must be 1 to 200").into());
        }
        let (mut filling, mut page, mut more) = (Filling::of(limit), Vec::new(), false);
        for item in items {
            if !filling.take(&item) {
                more = true;
                break;
            }
            page.push(item);
        }
        let next = page.last().filter(|_| more).map(key);
        Ok((page, next))
    }
}
