//! A value that everybody looks at and that may be replaced while the server runs.

use std::ops::Deref;

use arc_swap::ArcSwap;

/// See the module. What was replaced stays in memory, for whoever still looks at it: settings are small, and an operator reads
/// them again a few times in a server's life. In return a look costs no more than a pointer.
#[derive(Debug)]
pub struct Live<T: 'static>(ArcSwap<&'static T>);

impl<T> Live<T> {
    /// Begins with a value.
    pub fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(Box::leak(Box::new(value)) as &T))
    }

    /// From now on everybody sees another one.
    pub fn replace(&self, value: T) {
        self.0.store(std::sync::Arc::new(Box::leak(Box::new(value)) as &T));
    }
}

impl<T> Deref for Live<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let now: &'static T = **self.0.load();
        now
    }
}

#[cfg(test)]
mod tests {
    use super::Live;

    #[test]
    fn who_looks_sees_one_value_whole_and_then_the_next() {
        let live = Live::new(vec![1, 2]);
        let before: &Vec<i32> = &live;
        live.replace(vec![3]);
        assert_eq!((before.as_slice(), live.as_slice()), (&[1, 2][..], &[3][..]));
    }
}
