//! The bus over a real broker: what each call promises, and what is said when something is wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// A virtual host of the test's own; the test is skipped where there is no broker.
macro_rules! host {
    ($name:literal) => {
        match broker::shared() {
            // The process's number, as a broker may outlive the run.
            Some(shared) => {
                shared.virtual_host(&format!("rabbitmq-{}-{}", $name, std::process::id()))
            }
            None => return,
        }
    };
}

mod connection;
mod crash;
mod delivery;
mod letters;
mod limits;
mod refusal;
mod silence;

use std::{sync::Arc, time::Duration};

use orkestra::{
    Bytes,
    adapters::rabbitmq::{RabbitmqBus, RabbitmqConfig},
    clock::{Clock, IdSource, SystemClock, SystemIds, Timestamp},
    message::MessageKind,
    ports::{
        Arrived, Bus, BusError, ConsumerSpec, HandlerAddress, Inbox, Outgoing, Settlement,
        TraceContext,
    },
    testing::block_on,
    topic::Pattern,
};
use orkestra_tests::broker::VirtualHost;
use uuid::Uuid;

fn open(host: &VirtualHost, parameters: &str) -> Arc<RabbitmqBus> {
    at(&format!("{}?{parameters}", host.url))
}

fn at(url: &str) -> Arc<RabbitmqBus> {
    let config = RabbitmqConfig::parse(url).unwrap();
    Arc::new(RabbitmqBus::open(config, "shop", Arc::new(SystemClock::default())).unwrap())
}

fn address(kind: MessageKind, name: &str) -> HandlerAddress {
    HandlerAddress {
        kind,
        topic: if kind == MessageKind::Command {
            name.into()
        } else {
            String::new()
        },
        handler: format!("shop.{name}"),
    }
}

fn spec(kind: MessageKind, name: &str, patterns: &[&str]) -> ConsumerSpec {
    ConsumerSpec {
        inbox: false,
        address: address(kind, name),
        patterns: patterns.iter().map(|p| Pattern::new(p).unwrap()).collect(),
        concurrency: 1,
        prefetch: None,
    }
}

fn commands(bus: &RabbitmqBus, topic: &str) -> Inbox {
    block_on(bus.consume(spec(MessageKind::Command, topic, &[topic]))).unwrap()
}

fn events(bus: &RabbitmqBus, name: &str, patterns: &[&str]) -> Inbox {
    block_on(bus.consume(spec(MessageKind::Event, name, patterns))).unwrap()
}

fn id() -> Uuid {
    SystemIds::default().next_id(SystemClock::default().now())
}

fn message(kind: MessageKind, topic: &str, payload: &str) -> Outgoing {
    let id = id();
    let body = match kind {
        MessageKind::Command => format!(
            r#"{{"__type__":"command_envelope","command_type":"Shop.C","command_id":"{id}","params":{{"p":"{payload}"}}}}"#
        ),
        MessageKind::Event => format!(
            r#"{{"__type__":"event_envelope","event_type":"Shop.E","event_id":"{id}","data":{{"p":"{payload}"}}}}"#
        ),
    };
    Outgoing {
        kind,
        id,
        topic: topic.into(),
        correlation_id: "c-1".into(),
        body: Bytes::from(body),
        issued_at: Timestamp::from_micros(1_700_000_000_000_000),
        max_retries: None,
        trace: TraceContext::default(),
    }
}

fn command(topic: &str) -> Outgoing {
    message(MessageKind::Command, topic, "")
}

fn event(topic: &str) -> Outgoing {
    message(MessageKind::Event, topic, "")
}

fn text<T>(result: Result<T, BusError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// The next arrival, within ten seconds.
fn next(inbox: &Inbox) -> Arrived {
    within(inbox, Duration::from_secs(10)).unwrap()
}

fn within(inbox: &Inbox, limit: Duration) -> Option<Arrived> {
    let clock = SystemClock::default();
    block_on(async {
        match futures_util::future::select(std::pin::pin!(inbox.take()), clock.sleep(limit)).await {
            futures_util::future::Either::Left((arrived, _)) => arrived,
            futures_util::future::Either::Right(_) => None,
        }
    })
}

fn done(arrived: Arrived) {
    arrived.receipt.settle(Settlement::Done { reply: None });
}

/// Looks again until `found` finds something, ten seconds at most.
fn eventually<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::default();
    while clock.monotonic() < Duration::from_secs(10) {
        if let Some(found) = found() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("it never happened");
}

/// The queue has so many messages, as soon as the broker has counted them.
fn holds(host: &VirtualHost, queue: &str, messages: u64) {
    let mut depth = None;
    let clock = SystemClock::default();
    while clock.monotonic() < Duration::from_secs(10) {
        depth = host.depth(queue);
        if depth == Some(messages) {
            return;
        }
    }
    panic!("{queue} holds {depth:?}");
}

fn close(bus: &RabbitmqBus) {
    block_on(bus.close(Duration::from_secs(5)));
}
