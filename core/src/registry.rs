//! What an app knows: its message types and its handlers, by name. Pure data; the callables stay in their language, found by index.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    message::{MessageError, MessageKind},
    ports::{BusError, ConsumerSpec, HandlerAddress, OUTBOX, RELAY, TypeFilter},
    retry::RetryPolicy,
    topic::{Pattern, camelize, topic_for, underscore},
};

/// The place of a type in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeIndex(pub usize);

/// The place of a handler in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlerIndex(pub usize);

/// A message type to make known.
#[derive(Debug, Clone)]
pub struct TypeSpec {
    /// Command or event.
    pub kind: MessageKind,
    /// The type name.
    pub type_name: String,
    /// Schema version, from 1.
    pub version: u32,
    /// Names that are read as this type, never written.
    pub aliases: Vec<String>,
    /// The same number for the same class or definition: knowing it again is no error.
    pub identity: u64,
    /// What people call the class, for error messages.
    pub origin: String,
}

/// A known message type.
#[derive(Debug, Clone)]
pub struct TypeInfo {
    /// What was made known.
    pub spec: TypeSpec,
    /// The type name, shared.
    pub type_name: Arc<str>,
    /// The topic.
    pub topic: String,
}

/// How a handler is called.
#[derive(Debug, Clone, Default)]
pub struct HandlerOptions {
    /// When to try again.
    pub policy: RetryPolicy,
    /// Calls at the same time; `None` means 16 for commands and 1 for events.
    pub concurrency: Option<u32>,
    /// The longest that an attempt may take; `None` for no limit.
    pub timeout: Option<Duration>,
    /// Messages of a broker in hand at most; `None` for what the bus's URL says. Never under the concurrency.
    pub prefetch: Option<u32>,
    /// Whether it is recorded in the state store what the handler has handled, so that it handles no message twice. A message is looked up before
    /// the handler is called and recorded after it succeeded: who dies in between has handled it without a record.
    pub inbox: bool,
}

/// A handler to register.
#[derive(Debug, Clone, Default)]
pub struct HandlerSpec {
    /// Its name; for a command handler the topic when it is left out.
    pub name: Option<String>,
    /// The types that it takes; exactly one for a command handler.
    pub types: Vec<TypeIndex>,
    /// Topic patterns that it takes beside the types; for event handlers.
    pub patterns: Vec<Pattern>,
    /// How it is called.
    pub options: HandlerOptions,
}

/// A registered handler.
#[derive(Debug, Clone)]
pub struct HandlerInfo {
    /// Its name within the app.
    pub name: String,
    /// `<app>.<name>`: names its queue, checkpoint and dead letters.
    pub full_name: String,
    /// What it takes.
    pub kind: MessageKind,
    /// The topics and patterns that it takes.
    pub patterns: Vec<Pattern>,
    /// Calls at the same time.
    pub concurrency: u32,
    /// How it is called.
    pub options: HandlerOptions,
}

/// The types and handlers of an app.
#[derive(Debug)]
pub struct Registry {
    app: String,
    app_prefix: String,
    types: Vec<TypeInfo>,
    names: HashMap<String, TypeIndex>,
    topics: HashMap<String, TypeIndex>,
    handlers: Vec<HandlerInfo>,
    handler_names: HashSet<String>,
    commands: HashMap<TypeIndex, HandlerIndex>,
}

impl Registry {
    /// An empty registry of the app `name`. `app_prefix` is dotted; `None` means the camelised name, empty means none.
    ///
    /// # Errors
    /// [`MessageError::InvalidTypeName`] if the name or the prefix cannot name anything.
    pub fn new(name: &str, app_prefix: Option<&str>) -> Result<Self, MessageError> {
        let refuse = |reason: &str| {
            Err(MessageError::InvalidTypeName {
                type_name: name.chars().take(100).collect(),
                reason: reason.to_owned(),
            })
        };
        if name.is_empty() || name.len() > 100 {
            return refuse("an app's name has 1 to 100 characters");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(plain) {
            return refuse(
                "an app's name begins with a letter and has letters, digits, `_`, `-` and `.`",
            );
        }
        let app_prefix = app_prefix.map_or_else(|| camelize(name), str::to_owned);
        if !app_prefix.is_empty() {
            crate::topic::check_type_name(&app_prefix)?;
        }
        let app = name
            .split('.')
            .map(|s| underscore(&s.replace('-', "_")))
            .collect::<Vec<_>>()
            .join(".");
        Ok(Self {
            app,
            app_prefix,
            types: Vec::new(),
            names: HashMap::new(),
            topics: HashMap::new(),
            handlers: Vec::new(),
            handler_names: HashSet::new(),
            commands: HashMap::new(),
        })
    }

    /// The app's name, underscored.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The app's prefix, empty for none.
    pub fn app_prefix(&self) -> &str {
        &self.app_prefix
    }

    /// Makes a type known. The same type again (by its identity) is no error.
    ///
    /// # Errors
    /// [`MessageError::DuplicateType`], [`MessageError::TopicConflict`], [`MessageError::EmptyTopic`], [`MessageError::InvalidTypeName`].
    pub fn add_type(&mut self, spec: TypeSpec) -> Result<TypeIndex, MessageError> {
        if let Some(&index) = self.names.get(&spec.type_name)
            && self.types[index.0].spec.identity == spec.identity
        {
            return Ok(index);
        }
        let topic = topic_for(&spec.type_name, &self.app_prefix)?;
        for name in std::iter::once(&spec.type_name).chain(&spec.aliases) {
            crate::topic::check_type_name(name)?;
            if let Some(&other) = self.names.get(name) {
                return Err(MessageError::DuplicateType {
                    type_name: name.clone(),
                    first: self.types[other.0].spec.origin.clone(),
                    second: spec.origin,
                });
            }
        }
        if let Some(&other) = self.topics.get(&topic) {
            return Err(MessageError::TopicConflict {
                topic,
                first: self.types[other.0].spec.type_name.clone(),
                second: spec.type_name,
            });
        }
        let index = TypeIndex(self.types.len());
        self.topics.insert(topic.clone(), index);
        for name in std::iter::once(&spec.type_name).chain(&spec.aliases) {
            self.names.insert(name.clone(), index);
        }
        self.types.push(TypeInfo {
            type_name: spec.type_name.as_str().into(),
            spec,
            topic,
        });
        Ok(index)
    }

    /// The type of that name or alias, `None` if the app does not know it.
    pub fn type_named(&self, name: &str) -> Option<TypeIndex> {
        self.names.get(name).copied()
    }

    /// The type of a message that another service sent: of that name or alias, else of that topic, which is what services agree on.
    pub fn type_of(&self, type_name: &str, topic: &str) -> Option<TypeIndex> {
        self.type_named(type_name)
            .or_else(|| self.topics.get(topic).copied())
    }

    /// A type by its index.
    pub fn type_info(&self, index: TypeIndex) -> &TypeInfo {
        &self.types[index.0]
    }

    /// The known types, in the order they became known.
    pub fn types(&self) -> &[TypeInfo] {
        &self.types
    }

    /// The topic of a type name, known or not; an alias has the topic of its type.
    ///
    /// # Errors
    /// As [`topic_for`].
    pub fn topic_for(&self, type_name: &str) -> Result<String, MessageError> {
        match self.type_named(type_name) {
            Some(index) => Ok(self.types[index.0].topic.clone()),
            None => topic_for(type_name, &self.app_prefix),
        }
    }

    /// Registers the one handler of a command.
    ///
    /// # Errors
    /// [`BusError::DuplicateHandler`], [`BusError::DuplicateHandlerName`], [`BusError::InvalidHandler`], [`BusError::WrongKind`].
    pub fn add_command_handler(&mut self, spec: HandlerSpec) -> Result<HandlerIndex, BusError> {
        let &[index] = spec.types.as_slice() else {
            return Err(BusError::InvalidHandler {
                handler: spec.name.unwrap_or_else(|| "a command handler".into()),
                reason: format!("expected one command type, found {}", spec.types.len()),
            });
        };
        let info = self.checked(index, MessageKind::Command)?;
        let topic = info.topic.clone();
        if let Some(&other) = self.commands.get(&index) {
            return Err(BusError::DuplicateHandler {
                topic,
                handler: self.handlers[other.0].full_name.clone(),
            });
        }
        let name = spec.name.unwrap_or_else(|| topic.clone());
        let patterns = pattern_of(&topic).into_iter().collect();
        let handler = self.add_handler(name, MessageKind::Command, patterns, spec.options)?;
        self.commands.insert(index, handler);
        Ok(handler)
    }

    /// Registers an event handler.
    ///
    /// # Errors
    /// [`BusError::DuplicateHandlerName`], [`BusError::InvalidHandler`] (no name, nothing to handle), [`BusError::WrongKind`].
    pub fn add_event_handler(&mut self, spec: HandlerSpec) -> Result<HandlerIndex, BusError> {
        let Some(name) = spec.name else {
            return Err(BusError::InvalidHandler {
                handler: "an event handler".into(),
                reason: "it has no name".into(),
            });
        };
        let mut patterns = Vec::new();
        for index in spec.types {
            patterns.extend(pattern_of(&self.checked(index, MessageKind::Event)?.topic));
        }
        patterns.extend(spec.patterns);
        if patterns.is_empty() {
            return Err(BusError::InvalidHandler {
                handler: name,
                reason: "it names no event type and no topic".into(),
            });
        }
        self.add_handler(name, MessageKind::Event, patterns, spec.options)
    }

    /// Registers a projection of these types and topics, and returns its full name and all that it wants.
    ///
    /// Its name is in the same space as those of event handlers; names that end in `_rebuild`, `_switch` or `_history` are taken.
    ///
    /// # Errors
    /// As [`Registry::add_event_handler`].
    pub fn add_projection(
        &mut self,
        name: &str,
        types: &[TypeIndex],
        patterns: Vec<Pattern>,
    ) -> Result<(String, Vec<Pattern>), BusError> {
        let refuse = |reason: String| {
            Err(BusError::InvalidHandler {
                handler: name.chars().take(100).collect(),
                reason,
            })
        };
        for taken in ["_rebuild", "_switch", "_history"] {
            if name.ends_with(taken) {
                return refuse(format!("a projection's name does not end in {taken}"));
            }
        }
        let mut all = Vec::new();
        for index in types {
            all.extend(pattern_of(&self.checked(*index, MessageKind::Event)?.topic));
        }
        all.extend(patterns);
        if all.is_empty() {
            return refuse("it names no event type and no topic".into());
        }
        self.check_name(name)?;
        self.handler_names.insert(name.to_owned());
        Ok((format!("{}.{name}", self.app), all))
    }

    /// Whether a handler may have that name.
    fn check_name(&self, name: &str) -> Result<(), BusError> {
        let refuse = |reason: String| {
            Err(BusError::InvalidHandler {
                handler: name.chars().take(100).collect(),
                reason,
            })
        };
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '#' | '*');
        if name.is_empty() || name.len() > 150 {
            return refuse("a handler's name has 1 to 150 characters".into());
        }
        if let Some(c) = name.chars().find(|c| !plain(*c)) {
            return refuse(format!("its name has the character `{}`", c.escape_debug()));
        }
        let full_name = format!("{}.{name}", self.app);
        if [RELAY, OUTBOX].contains(&&*full_name) {
            return refuse(format!(
                "{full_name} is the name of what publishes the log or the outbox"
            ));
        }
        if self.handler_names.contains(name) {
            return Err(BusError::DuplicateHandlerName {
                handler: name.to_owned(),
            });
        }
        Ok(())
    }

    fn checked(&self, index: TypeIndex, kind: MessageKind) -> Result<&TypeInfo, BusError> {
        let info = &self.types[index.0];
        if info.spec.kind == kind {
            return Ok(info);
        }
        Err(BusError::WrongKind {
            expected: match kind {
                MessageKind::Command => "a command".into(),
                MessageKind::Event => "an event".into(),
            },
            found: format!("the {} {}", info.spec.kind.as_str(), info.spec.type_name),
        })
    }

    fn add_handler(
        &mut self,
        name: String,
        kind: MessageKind,
        patterns: Vec<Pattern>,
        options: HandlerOptions,
    ) -> Result<HandlerIndex, BusError> {
        let refuse = |reason: String| {
            Err(BusError::InvalidHandler {
                handler: name.chars().take(100).collect(),
                reason,
            })
        };
        if options.concurrency == Some(0) {
            return refuse("concurrency: expected at least 1, found 0".into());
        }
        if options.prefetch == Some(0) {
            return refuse("prefetch: expected at least 1, found 0".into());
        }
        if options.timeout == Some(Duration::ZERO) {
            return refuse("timeout: expected more than 0".into());
        }
        if let Err(error) = options.policy.check() {
            return refuse(error.to_string());
        }
        self.check_name(&name)?;
        self.handler_names.insert(name.clone());
        let full_name = format!("{}.{name}", self.app);
        let index = HandlerIndex(self.handlers.len());
        self.handlers.push(HandlerInfo {
            full_name,
            name,
            kind,
            patterns,
            concurrency: options.concurrency.unwrap_or(match kind {
                MessageKind::Command => 16,
                MessageKind::Event => 1,
            }),
            options,
        });
        Ok(index)
    }

    /// The handler of a command.
    ///
    /// # Errors
    /// [`BusError::NoHandler`] with the topic.
    pub fn command_handler(&self, type_name: &str) -> Result<HandlerIndex, BusError> {
        self.type_named(type_name)
            .and_then(|index| self.commands.get(&index))
            .copied()
            .ok_or_else(|| BusError::NoHandler {
                topic: self
                    .topic_for(type_name)
                    .unwrap_or_else(|_| type_name.to_owned()),
            })
    }

    /// The handlers of an event, each once, in order of registration. An alias counts as its type.
    pub fn event_handlers(&self, type_name: &str) -> Vec<HandlerIndex> {
        let Ok(topic) = self.topic_for(type_name) else {
            return Vec::new();
        };
        self.handlers
            .iter()
            .enumerate()
            .filter(|(_, h)| h.kind == MessageKind::Event)
            .filter(|(_, h)| h.patterns.iter().any(|p| p.matches(&topic)))
            .map(|(i, _)| HandlerIndex(i))
            .collect()
    }

    /// A handler by its index.
    pub fn handler(&self, index: HandlerIndex) -> &HandlerInfo {
        &self.handlers[index.0]
    }

    /// The handler of that full name, `<app>.<name>`.
    pub fn handler_named(&self, full_name: &str) -> Option<HandlerIndex> {
        let place = self.handlers.iter().position(|h| h.full_name == full_name);
        place.map(HandlerIndex)
    }

    /// The handlers, in order of registration.
    pub fn handlers(&self) -> &[HandlerInfo] {
        &self.handlers
    }

    /// What a handler consumes where there is a broker. An event handler takes the topics of its types' aliases too.
    pub fn consumer_spec(&self, index: HandlerIndex) -> ConsumerSpec {
        let info = &self.handlers[index.0];
        let mut patterns = info.patterns.clone();
        let topic = match info.kind {
            MessageKind::Command => patterns.first().map_or("", Pattern::as_str).to_owned(),
            MessageKind::Event => {
                let aliases = self.filter(&patterns).also;
                let topics = aliases
                    .iter()
                    .filter_map(|alias| topic_for(alias, &self.app_prefix).ok());
                for pattern in topics.filter_map(|topic| pattern_of(&topic)) {
                    if !patterns.contains(&pattern) {
                        patterns.push(pattern);
                    }
                }
                String::new()
            }
        };
        ConsumerSpec {
            address: HandlerAddress {
                kind: info.kind,
                topic,
                handler: info.full_name.clone(),
            },
            patterns,
            inbox: info.options.inbox,
            concurrency: info.concurrency,
            prefetch: info.options.prefetch,
        }
    }

    /// The filter by which a handler's subscription reads the log; it lets the aliases of wanted types pass too.
    pub fn filter_for(&self, index: HandlerIndex) -> TypeFilter {
        self.filter(&self.handlers[index.0].patterns)
    }

    /// The filter for these patterns; it lets the aliases of wanted types pass too.
    pub fn filter(&self, patterns: &[Pattern]) -> TypeFilter {
        let mut filter = TypeFilter::new(patterns.iter().cloned(), &self.app_prefix);
        filter.also = self
            .types
            .iter()
            .filter(|t| patterns.iter().any(|p| p.matches(&t.topic)))
            .flat_map(|t| t.spec.aliases.iter().map(|a| Arc::from(a.as_str())))
            .collect();
        filter
    }
}

fn pattern_of(topic: &str) -> Option<Pattern> {
    // A topic has neither spaces nor wildcards and is no longer than a pattern may be.
    Pattern::new(topic).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: MessageKind, type_name: &str, identity: u64) -> TypeSpec {
        TypeSpec {
            kind,
            type_name: type_name.into(),
            version: 1,
            aliases: Vec::new(),
            identity,
            origin: format!("shop.{type_name}"),
        }
    }

    fn shop() -> (Registry, TypeIndex, TypeIndex) {
        let mut registry = Registry::new("shop", None).unwrap();
        let place = registry
            .add_type(spec(MessageKind::Command, "Shop.Orders.PlaceOrder", 1))
            .unwrap();
        let placed = registry
            .add_type(spec(MessageKind::Event, "Shop.Orders.OrderPlaced", 2))
            .unwrap();
        (registry, place, placed)
    }

    fn named(name: &str, types: Vec<TypeIndex>) -> HandlerSpec {
        HandlerSpec {
            name: Some(name.into()),
            types,
            ..HandlerSpec::default()
        }
    }

    #[test]
    fn a_command_has_one_handler_named_after_its_topic() {
        let (mut registry, place, _) = shop();
        let spec = HandlerSpec {
            types: vec![place],
            ..HandlerSpec::default()
        };

        let handler = registry.add_command_handler(spec.clone()).unwrap();

        assert_eq!(
            registry.handler(handler).full_name,
            "shop.orders.place_order"
        );
        assert_eq!(registry.handler(handler).concurrency, 16);
        assert_eq!(
            registry.command_handler("Shop.Orders.PlaceOrder").unwrap(),
            handler
        );
        let error = registry.add_command_handler(spec).unwrap_err();
        assert!(
            matches!(error, BusError::DuplicateHandler { .. }),
            "{error}"
        );
        let error = registry
            .command_handler("Shop.Orders.CancelOrder")
            .unwrap_err();
        assert_eq!(error.to_string(), "no handler for orders.cancel_order");
    }

    #[test]
    fn an_event_reaches_each_matching_handler_once() {
        let (mut registry, _, placed) = shop();
        let mut both = named("both", vec![placed]);
        both.patterns = vec![Pattern::new("orders.#").unwrap()];
        let both = registry.add_event_handler(both).unwrap();
        let mut other = named("other", vec![]);
        other.patterns = vec![Pattern::new("billing.*").unwrap()];
        registry.add_event_handler(other).unwrap();

        assert_eq!(registry.event_handlers("Shop.Orders.OrderPlaced"), [both]);
        assert_eq!(registry.event_handlers("Shop.Orders.OrderLost"), [both]);
        assert_eq!(registry.event_handlers("Shop.Stock.ItemLost"), []);
    }

    #[test]
    fn names_topics_and_kinds_that_clash_are_refused() {
        let (mut registry, place, placed) = shop();
        assert_eq!(
            registry
                .add_type(spec(MessageKind::Event, "Shop.Orders.OrderPlaced", 2))
                .unwrap(),
            placed
        );
        assert!(matches!(
            registry.add_type(spec(MessageKind::Event, "Shop.Orders.OrderPlaced", 3)),
            Err(MessageError::DuplicateType { .. })
        ));
        assert!(matches!(
            registry.add_type(spec(MessageKind::Event, "Orders.OrderPlaced", 4)),
            Err(MessageError::TopicConflict { .. })
        ));
        assert!(matches!(
            registry.add_event_handler(named("x", vec![place])),
            Err(BusError::WrongKind { .. })
        ));
        registry
            .add_event_handler(named("y", vec![placed]))
            .unwrap();
        assert!(matches!(
            registry.add_event_handler(named("y", vec![placed])),
            Err(BusError::DuplicateHandlerName { .. })
        ));
        assert!(registry.add_event_handler(named("z", vec![])).is_err());
        let mut own = Registry::new("orkestra", None).unwrap();
        let event = own.add_type(spec(MessageKind::Event, "Orders.OrderPlaced", 5));
        assert!(matches!(
            own.add_event_handler(named("relay", vec![event.unwrap()])),
            Err(BusError::InvalidHandler { .. })
        ));
        assert!(
            registry
                .add_event_handler(named("a b", vec![placed]))
                .is_err()
        );
    }

    #[test]
    fn an_alias_is_read_as_its_type_and_passes_its_filters() {
        let mut registry = Registry::new("shop", None).unwrap();
        let mut renamed = spec(MessageKind::Event, "Shop.Orders.OrderPlaced", 1);
        renamed.aliases = vec!["Old.Placed".into()];
        let placed = registry.add_type(renamed).unwrap();
        let handler = registry
            .add_event_handler(named("h", vec![placed]))
            .unwrap();

        assert_eq!(registry.type_named("Old.Placed"), Some(placed));
        assert_eq!(
            registry.type_of("Web.Placed", "orders.order_placed"),
            Some(placed)
        );
        assert_eq!(registry.type_of("Web.Placed", "orders.placed"), None);
        assert_eq!(
            registry.topic_for("Old.Placed").unwrap(),
            "orders.order_placed"
        );
        assert!(registry.filter_for(handler).wants("Old.Placed"));
        assert!(
            registry
                .filter_for(handler)
                .wants("Shop.Orders.OrderPlaced")
        );
        assert!(!registry.filter_for(handler).wants("Old.Other"));
        let spec = registry.consumer_spec(handler);
        let topics: Vec<_> = spec.patterns.iter().map(Pattern::as_str).collect();
        assert_eq!(topics, ["orders.order_placed", "old.placed"]);
    }

    #[test]
    fn an_apps_name_names_its_prefix_and_its_handlers() {
        let registry = Registry::new("MyApp", None).unwrap();
        assert_eq!((registry.app(), registry.app_prefix()), ("my_app", "MyApp"));
        let registry = Registry::new("my-app", Some("")).unwrap();
        assert_eq!((registry.app(), registry.app_prefix()), ("my_app", ""));
        for name in ["", "1app", "a b", &"x".repeat(101)] {
            assert!(Registry::new(name, None).is_err(), "{name}");
        }
        assert!(Registry::new("app", Some("not a prefix")).is_err());
    }
}
