//! The figures of one run, printed as one line of JSON.
use std::fmt;

/// Named numbers in the order they were added.
#[derive(Default)]
pub struct Report(Vec<(&'static str, f64)>);

impl Report {
    pub fn put(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if value.is_finite() {
                write!(f, "{comma}\"{name}\":{value:.4}")?;
            } else {
                write!(f, "{comma}\"{name}\":null")?;
            }
        }
        f.write_str("}")
    }
}
