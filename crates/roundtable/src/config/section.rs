//! How a section of settings is declared: its struct, defaults, documentation and setters from one list.

/// A key as the example file shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDoc {
    /// Its name within the section.
    pub name: &'static str,
    /// What it means, line by line.
    pub doc: &'static [&'static str],
    /// Its default as TOML.
    pub default: String,
}

/// One section, whatever it holds.
pub trait Section {
    /// What the section is about, line by line.
    const ABOUT: &'static [&'static str];

    /// Its keys in the order of declaration.
    fn keys() -> Vec<KeyDoc>;

    /// Sets one key. `None` if there is no such key; an error says what is wrong with the value.
    fn set(&mut self, key: &str, value: &Given<'_>) -> Option<Result<(), String>>;
}

/// A value as somebody gave it.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// From a file, with its type.
    Toml(&'a toml::Value),
    /// From a variable or an argument: text only.
    Text(&'a str),
}

impl Given<'_> {
    /// The value as a setting's type. Text is taken as a string first and as a TOML value second, so that `200`, `true`,
    /// `200ms` and `["a"]` all work without quotes.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, String> {
        let text = match self {
            Self::Toml(value) => return (*value).clone().try_into().map_err(|e: toml::de::Error| said(&e)),
            Self::Text(text) => *text,
        };
        let as_string = toml::Value::String(text.to_owned()).try_into::<T>();
        as_string.or_else(|error| {
            let table = format!("value = {text}").parse::<toml::Table>().ok();
            let literal = table.as_ref().and_then(|t| t.get("value"));
            match literal {
                Some(value) => value.clone().try_into().map_err(|e: toml::de::Error| said(&e)),
                None => Err(said(&error)),
            }
        })
    }
}

fn said(error: &toml::de::Error) -> String {
    error.message().trim().to_owned()
}

/// The TOML form of a default.
pub fn shown<T: serde::Serialize>(value: &T) -> String {
    toml::Value::try_from(value).map_or_else(|_| "?".into(), |value| value.to_string())
}

macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident { $($(#[doc = $doc:literal])* $key:ident: $ty:ty = $default:expr,)* }) => {
        $(#[doc = $about])*
        #[derive(Clone, PartialEq, Debug, serde::Serialize)]
        pub struct $name { $($(#[doc = $doc])* pub $key: $ty,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl crate::config::section::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];

            fn keys() -> Vec<crate::config::section::KeyDoc> {
                let default = Self::default();
                vec![$(crate::config::section::KeyDoc {
                    name: stringify!($key),
                    doc: &[$($doc),*],
                    default: crate::config::section::shown(&default.$key),
                }),*]
            }

            fn set(
                &mut self,
                key: &str,
                value: &crate::config::section::Given<'_>,
            ) -> Option<Result<(), String>> {
                match key {
                    $(stringify!($key) => Some(value.read::<$ty>().map(|value| self.$key = value)),)*
                    _ => None,
                }
            }
        }
    };
}

macro_rules! config {
    ($(#[$about:meta])* $name:ident { $($section:ident: $ty:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Debug, Default, serde::Serialize)]
        pub struct $name { $(#[doc = concat!("Section `", stringify!($section), "`.")] pub $section: $ty,)* }

        impl $name {
            /// The names of the sections, in the order of declaration.
            pub const SECTIONS: &'static [&'static str] = &[$(stringify!($section)),*];

            /// A section's text and keys, in the order of declaration.
            pub fn documented() -> Vec<(&'static str, &'static [&'static str], Vec<crate::config::section::KeyDoc>)> {
                use crate::config::section::Section;
                vec![$((stringify!($section), <$ty as Section>::ABOUT, <$ty as Section>::keys())),*]
            }

            /// Sets `section.key`. `None` if there is no such key.
            pub(crate) fn set(
                &mut self,
                section: &str,
                key: &str,
                value: &crate::config::section::Given<'_>,
            ) -> Option<Result<(), String>> {
                match section {
                    $(stringify!($section) => crate::config::section::Section::set(&mut self.$section, key, value),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {config, section};
