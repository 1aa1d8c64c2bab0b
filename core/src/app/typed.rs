//! Rust types as messages.

use std::{
    any::{Any, TypeId},
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    message::{MessageError, MessageKind, PayloadLimits},
    registry::TypeSpec,
};

/// A type that is a message: its fields are the payload.
pub trait Message: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The type name, for example `MyApp.Orders.Commands.PlaceOrder`.
    const TYPE_NAME: &'static str;
    /// Names that are read as this type, never written.
    const ALIASES: &'static [&'static str] = &[];
}

/// An order, imperative, for exactly one handler.
pub trait Command: Message {
    /// What its handler answers; over a broker it goes as JSON. The commands of an aggregate answer
    /// [`AggregateAnswer`](crate::AggregateAnswer).
    type Output: Serialize + DeserializeOwned + Send + 'static;
}

/// A fact, past tense, for any number of handlers.
pub trait Event: Message {
    /// The schema version of the payload.
    const VERSION: u32 = 1;

    /// Turns a payload of `version` into that of `version + 1`. Needed for every version below [`Event::VERSION`].
    ///
    /// # Errors
    /// [`MessageError::NoUpcaster`] unless it is written.
    fn upcast(version: u32, data: Value) -> Result<Value, MessageError> {
        let _ = data;
        Err(MessageError::NoUpcaster {
            type_name: Self::TYPE_NAME.into(),
            from: version,
            to: Self::VERSION,
        })
    }
}

/// One event type, or an enum of several made with [`event_set!`](crate::event_set).
pub trait EventSet: Clone + Send + Sync + 'static {
    /// The types in it.
    fn types() -> Vec<TypeSpec>;
    /// The value as a member, if its type is one.
    fn from_typed(value: &(dyn Any + Send + Sync)) -> Option<Self>;
    /// The payload as a member, `None` if its type is none.
    ///
    /// # Errors
    /// [`MessageError::InvalidPayload`], [`MessageError::NoUpcaster`].
    fn from_json(type_name: &str, version: u32, data: &[u8]) -> Result<Option<Self>, MessageError>;
    /// Type name, version and payload.
    ///
    /// # Errors
    /// [`MessageError::NotJson`] and the limits of payloads.
    fn to_json(&self, limits: PayloadLimits) -> Result<(&'static str, u32, Bytes), MessageError>;
}

/// One command type, or an enum of several made with [`command_set!`](crate::command_set).
pub trait CommandSet: Clone + Send + Sync + 'static {
    /// The types in it.
    fn types() -> Vec<TypeSpec>;
    /// The value as a member, if its type is one.
    fn from_typed(value: &(dyn Any + Send + Sync)) -> Option<Self>;
    /// The payload as a member, `None` if its type is none.
    ///
    /// # Errors
    /// [`MessageError::InvalidPayload`].
    fn from_json(type_name: &str, data: &[u8]) -> Result<Option<Self>, MessageError>;
    /// Type name and payload.
    ///
    /// # Errors
    /// [`MessageError::NotJson`] and the limits of payloads.
    fn to_json(&self, limits: PayloadLimits) -> Result<(&'static str, Bytes), MessageError>;
}

/// The declaration of a message type.
pub fn spec_of<M: Message>(kind: MessageKind, version: u32) -> TypeSpec {
    let mut hasher = DefaultHasher::new();
    TypeId::of::<M>().hash(&mut hasher);
    TypeSpec {
        kind,
        type_name: M::TYPE_NAME.into(),
        version,
        aliases: M::ALIASES.iter().map(|a| (*a).to_owned()).collect(),
        identity: hasher.finish(),
        origin: std::any::type_name::<M>().into(),
    }
}

fn is_named<M: Message>(type_name: &str) -> bool {
    M::TYPE_NAME == type_name || M::ALIASES.contains(&type_name)
}

/// The payload of a message, checked against the limits.
///
/// # Errors
/// [`MessageError::NotJson`], [`MessageError::TooLarge`], [`MessageError::TooDeep`].
pub fn encode<M: Message>(message: &M, limits: PayloadLimits) -> Result<Bytes, MessageError> {
    let bytes = serde_json::to_vec(message).map_err(|error| MessageError::NotJson {
        type_name: M::TYPE_NAME.into(),
        path: "$".into(),
        reason: error.to_string(),
    })?;
    limits.check(M::TYPE_NAME, &bytes)?;
    Ok(bytes.into())
}

/// A message from its payload. Unknown fields are ignored unless the type itself denies them.
///
/// # Errors
/// [`MessageError::InvalidPayload`].
pub fn decode<M: Message>(data: &[u8]) -> Result<M, MessageError> {
    parse(data).map_err(|error| invalid::<M>(&error))
}

/// Without serde's own limit of 127 levels: payloads have 128 at most, which is checked before they are recorded.
fn parse<T: DeserializeOwned>(data: &[u8]) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(data);
    json.disable_recursion_limit();
    let value = T::deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

fn invalid<M: Message>(error: &serde_json::Error) -> MessageError {
    MessageError::InvalidPayload {
        type_name: M::TYPE_NAME.into(),
        reason: error.to_string(),
        errors: serde_json::json!([{ "path": "$", "message": error.to_string() }]),
    }
}

/// An event from its recorded payload, upcast where needed.
///
/// # Errors
/// [`MessageError::InvalidPayload`], [`MessageError::NoUpcaster`].
pub fn decode_event<E: Event>(version: u32, data: &[u8]) -> Result<E, MessageError> {
    if version == E::VERSION {
        return decode(data);
    }
    if version > E::VERSION {
        return Err(MessageError::NoUpcaster {
            type_name: E::TYPE_NAME.into(),
            from: version,
            to: E::VERSION,
        });
    }
    let mut value = parse(data).map_err(|error| invalid::<E>(&error))?;
    for from in version..E::VERSION {
        value = E::upcast(from, value)?;
    }
    serde_json::from_value(value).map_err(|error| invalid::<E>(&error))
}

impl<E: Event> EventSet for E {
    fn types() -> Vec<TypeSpec> {
        vec![spec_of::<E>(MessageKind::Event, E::VERSION)]
    }

    fn from_typed(value: &(dyn Any + Send + Sync)) -> Option<Self> {
        value.downcast_ref::<E>().cloned()
    }

    fn from_json(type_name: &str, version: u32, data: &[u8]) -> Result<Option<Self>, MessageError> {
        if !is_named::<E>(type_name) {
            return Ok(None);
        }
        decode_event(version, data).map(Some)
    }

    fn to_json(&self, limits: PayloadLimits) -> Result<(&'static str, u32, Bytes), MessageError> {
        Ok((E::TYPE_NAME, E::VERSION, encode(self, limits)?))
    }
}

impl<C: Command> CommandSet for C {
    fn types() -> Vec<TypeSpec> {
        vec![spec_of::<C>(MessageKind::Command, 1)]
    }

    fn from_typed(value: &(dyn Any + Send + Sync)) -> Option<Self> {
        value.downcast_ref::<C>().cloned()
    }

    fn from_json(type_name: &str, data: &[u8]) -> Result<Option<Self>, MessageError> {
        if !is_named::<C>(type_name) {
            return Ok(None);
        }
        decode(data).map(Some)
    }

    fn to_json(&self, limits: PayloadLimits) -> Result<(&'static str, Bytes), MessageError> {
        Ok((C::TYPE_NAME, encode(self, limits)?))
    }
}

/// Declares an enum of event types: what an aggregate's stream holds, or what one handler takes.
///
/// Each variant has the name of the event type that it holds, and `From` is there for each.
///
/// ```
/// # use serde::{Serialize, Deserialize};
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// pub struct OrderPlaced { pub order_id: String }
/// impl orkestra::Message for OrderPlaced {
///     const TYPE_NAME: &'static str = "Shop.Orders.Events.OrderPlaced";
/// }
/// impl orkestra::Event for OrderPlaced {}
///
/// orkestra::event_set! {
///     /// What happens to an order.
///     #[derive(Debug, PartialEq)]
///     pub enum OrderEvent { OrderPlaced }
/// }
/// let event: OrderEvent = OrderPlaced { order_id: "o-1".into() }.into();
/// assert_eq!(event, OrderEvent::OrderPlaced(OrderPlaced { order_id: "o-1".into() }));
/// ```
#[macro_export]
macro_rules! event_set {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($event:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone)]
        $vis enum $name {
            $(
                #[doc = concat!("A [`", stringify!($event), "`].")]
                $event($event),
            )+
        }

        $(
            impl From<$event> for $name {
                fn from(event: $event) -> Self {
                    Self::$event(event)
                }
            }
        )+

        impl $crate::EventSet for $name {
            fn types() -> Vec<$crate::registry::TypeSpec> {
                let mut types = Vec::new();
                $( types.extend(<$event as $crate::EventSet>::types()); )+
                types
            }

            fn from_typed(value: &(dyn std::any::Any + Send + Sync)) -> Option<Self> {
                $(
                    if let Some(event) = <$event as $crate::EventSet>::from_typed(value) {
                        return Some(Self::$event(event));
                    }
                )+
                None
            }

            fn from_json(
                type_name: &str,
                version: u32,
                data: &[u8],
            ) -> Result<Option<Self>, $crate::message::MessageError> {
                $(
                    if let Some(event) =
                        <$event as $crate::EventSet>::from_json(type_name, version, data)?
                    {
                        return Ok(Some(Self::$event(event)));
                    }
                )+
                Ok(None)
            }

            fn to_json(
                &self,
                limits: $crate::message::PayloadLimits,
            ) -> Result<(&'static str, u32, $crate::Bytes), $crate::message::MessageError> {
                match self {
                    $( Self::$event(event) => $crate::EventSet::to_json(event, limits), )+
                }
            }
        }
    };
}

/// Declares an enum of command types: what an aggregate takes. As [`event_set!`](crate::event_set) does for events.
#[macro_export]
macro_rules! command_set {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($command:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone)]
        $vis enum $name {
            $(
                #[doc = concat!("A [`", stringify!($command), "`].")]
                $command($command),
            )+
        }

        $(
            impl From<$command> for $name {
                fn from(command: $command) -> Self {
                    Self::$command(command)
                }
            }
        )+

        impl $crate::CommandSet for $name {
            fn types() -> Vec<$crate::registry::TypeSpec> {
                let mut types = Vec::new();
                $( types.extend(<$command as $crate::CommandSet>::types()); )+
                types
            }

            fn from_typed(value: &(dyn std::any::Any + Send + Sync)) -> Option<Self> {
                $(
                    if let Some(command) = <$command as $crate::CommandSet>::from_typed(value) {
                        return Some(Self::$command(command));
                    }
                )+
                None
            }

            fn from_json(
                type_name: &str,
                data: &[u8],
            ) -> Result<Option<Self>, $crate::message::MessageError> {
                $(
                    if let Some(command) =
                        <$command as $crate::CommandSet>::from_json(type_name, data)?
                    {
                        return Ok(Some(Self::$command(command)));
                    }
                )+
                Ok(None)
            }

            fn to_json(
                &self,
                limits: $crate::message::PayloadLimits,
            ) -> Result<(&'static str, $crate::Bytes), $crate::message::MessageError> {
                match self {
                    $( Self::$command(command) => $crate::CommandSet::to_json(command, limits), )+
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Noted {
        note: Value,
    }
    impl Message for Noted {
        const TYPE_NAME: &'static str = "Shop.Noted";
    }
    impl Event for Noted {
        const VERSION: u32 = 2;
        fn upcast(_: u32, data: Value) -> Result<Value, MessageError> {
            Ok(data)
        }
    }

    #[test]
    fn the_deepest_payload_allowed_can_be_read_and_upcast() {
        let json = format!("{{\"note\":{}{}}}", "[".repeat(127), "]".repeat(127));
        PayloadLimits::default()
            .check("Shop.Noted", json.as_bytes())
            .unwrap();

        decode::<Noted>(json.as_bytes()).unwrap();
        decode_event::<Noted>(1, json.as_bytes()).unwrap();
    }
}
