use std::{collections::VecDeque, thread};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::{
    adapters::memory::MemoryStore,
    clock::{ManualClock, ManualIds, Timestamp},
    message::MessageKind,
    ports::{
        BrokerLetter, Bus, BusHealth, CheckpointStore, ConsumerSpec, DeadLetterFilter, EventStore,
        ExpectedRevision, HandlerAddress, Inbox, NewEvent, OutboxStore, StreamName, TakeLetter,
        TraceContext, TypeFilter,
    },
    subscription::{Start, SubscriptionOptions},
};

/// A bus that notes what is sent, and answers as it is told.
#[derive(Debug, Default)]
struct FakeBus {
    sent: Mutex<Vec<String>>,
    answers: Mutex<VecDeque<Result<(), BusError>>>,
}

#[async_trait]
impl Bus for FakeBus {
    async fn send(&self, message: Outgoing) -> Result<(), BusError> {
        let answer = self.answers.lock().pop_front().unwrap_or(Ok(()));
        let note = format!("{} {}", message.id.as_u128(), message.topic);
        if answer.is_ok() {
            self.sent.lock().push(note);
        }
        answer
    }
    async fn ask(&self, _: Outgoing) -> Result<Bytes, BusError> {
        Err(BusError::Closed {})
    }
    async fn consume(&self, _: ConsumerSpec) -> Result<Inbox, BusError> {
        Err(BusError::Closed {})
    }
    async fn requeue(
        &self,
        _: HandlerAddress,
        _: Outgoing,
        _: Option<Uuid>,
    ) -> Result<(), BusError> {
        Err(BusError::Closed {})
    }
    async fn letters(&self, _: usize) -> Result<Vec<BrokerLetter>, BusError> {
        Ok(Vec::new())
    }
    async fn drain_letters(&self, _: usize, _: TakeLetter) -> Result<usize, BusError> {
        Ok(0)
    }
    fn health(&self) -> BusHealth {
        BusHealth::default()
    }
    async fn pause(&self) {}
    async fn close(&self, _: Duration) {}
}

struct Shop {
    clock: ManualClock,
    store: Arc<MemoryStore>,
    bus: Arc<FakeBus>,
    background: Background,
    relay: RunningRelay,
    told: Arc<Mutex<Vec<Uuid>>>,
}

fn event(n: u128, type_name: &str, metadata: &'static str) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(n),
        type_name: type_name.into(),
        version: 1,
        data: "{}".into(),
        metadata: metadata.into(),
        occurred_at: Timestamp::from_micros(0),
    }
}

fn placed(n: u128) -> NewEvent {
    event(n, "Shop.OrderPlaced", "{}")
}

/// Blocks until the future is ready; what it waits for is another thread's.
fn wait<T>(future: impl Future<Output = T> + Send + 'static) -> T
where
    T: Send + 'static,
{
    let (send, receive) = std::sync::mpsc::channel();
    Background::default().detach(async move {
        let _ = send.send(future.await);
    });
    receive.recv_timeout(Duration::from_secs(60)).unwrap()
}

fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

fn append(store: &Arc<MemoryStore>, events: Vec<NewEvent>) -> Position {
    let store = Arc::clone(store);
    let stream = StreamName::new("order-1").unwrap();
    let appended =
        wait(async move { store.append(stream, events, ExpectedRevision::Any).await }).unwrap();
    appended.position.unwrap()
}

impl Shop {
    /// A relay over a log that has the event 1 already, and a bus that answers so.
    fn open(answers: impl IntoIterator<Item = Result<(), BusError>>) -> Self {
        let clock = ManualClock::default();
        let store = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        append(&store, vec![placed(1)]);
        let bus = Arc::new(FakeBus::default());
        bus.answers.lock().extend(answers);
        let background = Background::default();
        let broker = Broker::new(
            bus.clone(),
            None,
            Arc::new(clock.clone()),
            Arc::new(ManualIds::default()),
            background.clone(),
        );
        let told = Arc::new(Mutex::new(Vec::new()));
        let options = RelayOptions::new(Arc::new(|type_name| {
            type_name.strip_prefix("Shop.").map(str::to_lowercase)
        }))
        .on_dead_letter({
            let told = Arc::clone(&told);
            move |letter| told.lock().push(letter.message_id)
        });
        let reading = SubscriptionOptions::new(Start::Now, TypeFilter::default());
        let subscription = Subscription::durable(store.clone(), store.clone(), RELAY, reading)
            .owned(store.clone(), "me", Arc::new(clock.clone()))
            .kept_by(background.clone());
        let reader = OutboxReader::new(
            store.clone(),
            store.clone(),
            "me",
            Arc::new(clock.clone()),
            background.clone(),
        );
        let mut relay = Relay::new(subscription, broker, store.clone(), options);
        let relay = wait(async move {
            relay.open().await.unwrap();
            relay
        })
        .start(reader, &background);
        Self {
            clock,
            store,
            bus,
            background,
            relay,
            told,
        }
    }

    fn published_to(&self, position: Position) {
        let store = Arc::clone(&self.store);
        wait(async move { store.wait_until(RELAY.into(), position).await }).unwrap();
    }

    fn checkpoint(&self) -> Option<Position> {
        let store = Arc::clone(&self.store);
        let checkpoint = wait(async move { store.load(RELAY.into()).await }).unwrap();
        checkpoint.and_then(|checkpoint| checkpoint.position)
    }

    /// The numbers of the messages that are in the outbox.
    fn in_the_outbox(&self) -> Vec<u128> {
        let store = Arc::clone(&self.store);
        let rows = wait(async move { store.pending(None, 100).await }).unwrap();
        rows.iter().map(|row| row.message.id.as_u128()).collect()
    }

    fn sent(&self) -> Vec<String> {
        self.bus.sent.lock().clone()
    }

    fn close(self) {
        let clock = self.clock.clone();
        let _ = &self.background;
        wait(async move { self.relay.stop(&clock, Duration::from_secs(5)).await });
    }
}

fn away() -> Result<(), BusError> {
    Err(BusError::Unavailable {
        reason: "away".into(),
    })
}

#[test]
fn what_is_appended_is_published_in_order_and_only_once() {
    let shop = Shop::open([]);

    let last = append(&shop.store, (2..=4).map(placed).collect());

    shop.published_to(last);
    assert_eq!(
        shop.sent(),
        ["2 orderplaced", "3 orderplaced", "4 orderplaced"]
    );
    assert_eq!(
        shop.relay.health(),
        RelayHealth {
            position: Some(last),
            error: None
        }
    );
    shop.close();
}

#[test]
fn while_the_broker_is_away_nothing_is_passed_over() {
    let shop = Shop::open([Ok(()), away(), Ok(()), away()]);
    let last = append(&shop.store, (2..=4).map(placed).collect());
    let second = Position(last.0 - 2);
    // Beside the renewals of the lease there is the wait before the next attempt.
    until(|| shop.clock.next_wake() == Some(FIRST_WAIT));
    let error = shop.relay.health().error.unwrap();
    assert_eq!(error, "the broker is unavailable: away");
    assert_eq!(
        shop.checkpoint(),
        Some(second),
        "who dies now leaves 3 to the next one"
    );
    shop.clock.advance(FIRST_WAIT);
    until(|| shop.clock.next_wake() == Some(FIRST_WAIT * 2));
    assert_eq!(shop.checkpoint(), Some(second));
    shop.clock.advance(FIRST_WAIT * 2);

    shop.published_to(last);

    // 4 went out beside the 3 that did not, twice, and again after it.
    let sent: Vec<String> = ["2", "4", "4", "3", "4"]
        .map(|n| format!("{n} orderplaced"))
        .into();
    assert_eq!(shop.sent(), sent);
    until(|| shop.relay.health().error.is_none());
    shop.close();
}

#[test]
fn what_the_broker_did_not_take_stays_in_the_outbox() {
    let shop = Shop::open([Ok(()), away(), Ok(())]);
    let message = |n: u128| Outgoing {
        id: Uuid::from_u128(n),
        kind: MessageKind::Event,
        topic: "orderplaced".into(),
        body: "{}".into(),
        correlation_id: "c".into(),
        issued_at: Timestamp::from_micros(0),
        max_retries: None,
        trace: TraceContext::default(),
    };
    let (store, messages) = (Arc::clone(&shop.store), (11..=13).map(message).collect());
    wait(async move { store.enqueue(messages).await }).unwrap();

    until(|| shop.clock.next_wake() == Some(FIRST_WAIT));
    assert_eq!(shop.in_the_outbox(), [12]);
    shop.clock.advance(FIRST_WAIT);
    until(|| shop.in_the_outbox().is_empty());

    let sent = ["11", "13", "12"].map(|n| format!("{n} orderplaced"));
    assert_eq!(shop.sent(), sent);
    shop.close();
}

#[test]
fn what_the_broker_never_takes_is_parked_and_the_rest_goes_on() {
    let too_large = Err(BusError::MessageTooLarge {
        topic: "orderplaced".into(),
        bytes: 2,
        reason: "1 at most".into(),
    });
    let shop = Shop::open([Ok(()), too_large]);
    let damaged = event(4, "Shop.OrderPlaced", r#"{"correlation_id":7}"#);
    let nobodys = event(5, "Elsewhere.Noted", "{}");

    let last = append(
        &shop.store,
        vec![placed(2), placed(3), damaged, nobodys, placed(6)],
    );

    shop.published_to(last);
    assert_eq!(shop.sent(), ["2 orderplaced", "6 orderplaced"]);
    let store = Arc::clone(&shop.store);
    let page = wait(async move { store.list(DeadLetterFilter::default()).await }).unwrap();
    let mut parked: Vec<_> = page.items.iter().map(|l| l.message_id.as_u128()).collect();
    parked.sort_unstable();
    assert_eq!(parked, [3, 4]);
    assert!(
        page.items
            .iter()
            .all(|l| l.handler == RELAY && l.requeueable)
    );
    assert_eq!(shop.told.lock().len(), 2);
    shop.close();
}

#[test]
fn stopping_publishes_what_is_in_the_log_and_gives_the_name_back() {
    let shop = Shop::open([]);
    let (store, bus) = (Arc::clone(&shop.store), Arc::clone(&shop.bus));

    let last = append(&store, (2..=600).map(placed).collect());
    shop.close();

    assert_eq!(bus.sent.lock().len(), 599);
    let again = wait({
        use crate::ports::LeaseStore;
        let store = Arc::clone(&store);
        async move {
            store
                .acquire(RELAY.into(), "other".into(), Duration::from_secs(1))
                .await
        }
    });
    assert!(again.unwrap().is_some());
    let checkpoint = wait(async move { store.load(RELAY.into()).await }).unwrap();
    assert_eq!(
        checkpoint.and_then(|c: crate::ports::Checkpoint| c.position),
        Some(last)
    );
}
