//! The stock of one product: it cannot be reserved twice.

use orkestra::{Aggregate, Reject};

use crate::messages::{StockCommand, StockEvent, StockReceived, StockReserved};

#[derive(Debug)]
pub(crate) struct Stock;

impl Aggregate for Stock {
    const NAME: &'static str = "Stock";
    /// Pieces that nobody has reserved.
    type State = i64;
    type Command = StockCommand;
    type Event = StockEvent;

    fn initial() -> i64 {
        0
    }

    fn stream_id(command: &StockCommand) -> String {
        let product_id = match command {
            StockCommand::ReceiveStock(command) => &command.product_id,
            StockCommand::ReserveStock(command) => &command.product_id,
        };
        format!("stock-{product_id}")
    }

    fn decide(free: &i64, command: &StockCommand) -> Result<Vec<StockEvent>, Reject> {
        let event = match command {
            StockCommand::ReserveStock(command) if command.quantity > *free => {
                let wanted = command.quantity;
                return Err(Reject::new(format!("{free} in stock, {wanted} wanted")));
            }
            StockCommand::ReserveStock(command) => StockReserved {
                order_id: command.order_id.clone(),
                quantity: command.quantity,
            }
            .into(),
            StockCommand::ReceiveStock(command) => StockReceived {
                quantity: command.quantity,
            }
            .into(),
        };
        Ok(vec![event])
    }

    fn evolve(free: i64, event: &StockEvent) -> i64 {
        match event {
            StockEvent::StockReceived(event) => free + event.quantity,
            StockEvent::StockReserved(event) => free - event.quantity,
        }
    }
}
