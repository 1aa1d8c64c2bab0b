//! Behind a pooler of transactions: a connection of its own past it, which hears what other processes commit.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    config::PostgresConfig,
    connect::{Conn, Connector},
    pool::Pause,
    store::Core,
    writer::LISTEN,
};
use crate::ports::StoreError;

/// Listens for as long as it is polled. While there is no such connection, news are found by looking.
pub(super) async fn listen(core: Arc<Core>, config: PostgresConfig) {
    let connector = match Connector::new(config) {
        Ok(connector) => connector,
        Err(error) => {
            tracing::warn!(%error, "nobody listens for the commits of other processes");
            return;
        }
    };
    let mut pause = Pause::default();
    let mut heard = true;
    loop {
        match connect(&core, &connector).await {
            Ok((_conn, ended)) => {
                heard = true;
                pause = Pause::default();
                // What happened meanwhile was told to nobody here.
                core.hub.ring_all();
                let _ = ended.await;
            }
            Err(error) if heard => {
                heard = false;
                tracing::warn!(%error, "nobody listens for the commits of other processes");
            }
            Err(_) => {}
        }
        sleep_until(pause.after(Instant::now())).await;
    }
}

/// A connection that listens, and what ends with it.
async fn connect(
    core: &Core,
    connector: &Connector,
) -> Result<(Conn, oneshot::Receiver<()>), StoreError> {
    let hub = Arc::clone(&core.hub);
    let (alive, ended) = oneshot::channel();
    let told = move |notification| {
        // Dropped with the connection, whoever ends it.
        let _ = &alive;
        hub.hear(&notification);
    };
    let conn = connector.connect(told).await?;
    let listening = conn.batch(&connector.sql.render(LISTEN)).await;
    listening.map_err(|failure| failure.into_store_error(&connector.place))?;
    Ok((conn, ended))
}
