//! Messages that leave once what they belong to is committed, and what handlers have handled.

use napi_derive::napi;
use orkestra::ports::{Outgoing, StoreError};
use serde_json::json;

use crate::{
    bridge::Started, broker::SendIn, dead_letters::id_of, names::parse_borrowed,
    registry::NodeRegistry, services::NodeStores,
};

fn outgoing(registry: &NodeRegistry, json: &str) -> napi::Result<Outgoing> {
    parse_borrowed::<SendIn<'_>>(json)?.outgoing(registry)
}

/// The statements of a claim in a SQLite file of the user's own, JSON.
#[napi]
pub fn claim_sql() -> String {
    let sql = orkestra::claim_sql();
    json!({ "create": sql.create, "claim": sql.claim }).to_string()
}

#[napi]
impl NodeStores {
    /// Puts a message into the outbox. Ends with its id.
    #[napi]
    pub fn enqueue(&self, registry: &NodeRegistry, json: String) -> napi::Result<Started> {
        let outbox = self.services()?.outbox;
        let message = outgoing(registry, &json)?;
        self.spawner.start(async move {
            let id = message.id.to_string();
            outbox.enqueue(vec![message]).await?;
            Ok::<_, StoreError>(Some(id))
        })
    }

    /// The parameters of the database's own function that puts a message into the outbox, JSON.
    #[napi]
    pub fn outgoing(&self, registry: &NodeRegistry, json: String) -> napi::Result<String> {
        let message = outgoing(registry, &json)?;
        let parameters = json!([
            message.kind.as_str(),
            message.id,
            &*message.topic,
            &*message.correlation_id,
            String::from_utf8_lossy(&message.body),
            message.issued_at.to_string(),
            message.max_retries,
            message.trace.traceparent.as_deref(),
            message.trace.tracestate.as_deref(),
            message.trace.baggage.as_deref(),
        ]);
        Ok(parameters.to_string())
    }

    /// How many messages are in the outbox, and since when the oldest, JSON.
    #[napi]
    pub fn outbox_backlog(&self) -> napi::Result<Started> {
        let outbox = self.services()?.outbox;
        self.spawner.start(async move {
            let backlog = outbox.backlog().await?;
            let oldest = backlog.oldest.map(|at| at.to_string());
            let json = json!({ "messages": backlog.messages, "oldest": oldest });
            Ok::<_, StoreError>(Some(json.to_string()))
        })
    }

    /// Whether a handler has handled a message: ends with text then.
    #[napi]
    pub fn was_handled(&self, handler: String, id: String) -> napi::Result<Started> {
        let inbox = self.services()?.inbox;
        let id = id_of(&id)?;
        self.spawner.start(async move {
            let entry = inbox.find(handler, id).await?;
            Ok::<_, StoreError>(entry.map(|_| String::new()))
        })
    }

    /// Records that a handler has handled a message.
    #[napi]
    pub fn record_handled(&self, handler: String, id: String) -> napi::Result<Started> {
        let inbox = self.services()?.inbox;
        let id = id_of(&id)?;
        self.spawner.start(async move {
            inbox.record(handler, id, None).await?;
            Ok::<_, StoreError>(None)
        })
    }
}
