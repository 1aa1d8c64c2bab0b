//! The catalogue of error codes, and the trait that every error enum implements.

use std::{fmt, sync::Arc};

use serde_json::Value;

/// One line of the error catalogue (`tests/vectors/errors.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// The stable code, `ORK_` + layer + variant. It never changes once released.
    pub code: &'static str,
    /// The layer, in upper case: `MESSAGE`, `BUS`, `STORE`, …
    pub layer: &'static str,
    /// The class in Python and Node; it stands under its layer's class, under `OrkestraError`.
    pub class: &'static str,
    /// Whether the same call may succeed later without any change.
    pub transient: bool,
    /// The keys of [`Coded::details`], in order.
    pub details: &'static [&'static str],
}

/// An error with a stable code and its facts as data.
pub trait Coded: std::error::Error {
    /// The line of the catalogue that this error belongs to.
    fn entry(&self) -> &'static ErrorCode;
    /// The fields of the error as a JSON object.
    fn details(&self) -> Value;
    /// The stable code, for example `ORK_BUS_NO_HANDLER`.
    fn code(&self) -> &'static str {
        self.entry().code
    }
    /// Whether the same call may succeed later without any change.
    fn is_transient(&self) -> bool {
        self.entry().transient
    }
}

/// The error of a library underneath, kept for people; its type is not public.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    /// Keeps `error` as a cause.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// A cause that is only known as text.
    pub fn text(text: impl Into<String>) -> Self {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Text(String);
        Self(Arc::new(Text(text.into())))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl serde::Serialize for Cause {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Declares one layer's error enum with its codes, classes and fields, so that the three cannot drift apart.
macro_rules! coded_errors {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $layer:literal {
            $(
                $(#[$vmeta:meta])*
                $variant:ident { $( $(#[$fmeta:meta])* $field:ident : $ty:ty ),* $(,)? }
                    = $code:literal, $class:literal, transient: $transient:literal;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, thiserror::Error, serde::Serialize)]
        #[serde(untagged)]
        #[non_exhaustive]
        pub enum $name {
            $(
                $(#[$vmeta])*
                $variant { $( $(#[$fmeta])* $field: $ty ),* },
            )*
        }

        impl $name {
            /// This layer's part of the catalogue.
            pub const CODES: &'static [$crate::code::ErrorCode] = &[
                $( $crate::code::ErrorCode {
                    code: $code,
                    layer: $layer,
                    class: $class,
                    transient: $transient,
                    details: &[$( stringify!($field) ),*],
                }, )*
            ];
        }

        impl $crate::code::Coded for $name {
            fn entry(&self) -> &'static $crate::code::ErrorCode {
                let code = match self { $( Self::$variant { .. } => $code, )* };
                let mut i = 0;
                while i + 1 < Self::CODES.len() && Self::CODES[i].code != code {
                    i += 1;
                }
                &Self::CODES[i]
            }

            fn details(&self) -> serde_json::Value {
                serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
            }
        }
    };
}
pub(crate) use coded_errors;
