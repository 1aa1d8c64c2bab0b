//! What can be asked for and what can happen in the shop.

use orkestra::{AggregateAnswer, Command, Event, Message, command_set, event_set};
use serde::{Deserialize, Serialize};

/// Asks for an order; its handler answers the order's id.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PlaceOrder {
    pub(crate) product_id: String,
    pub(crate) quantity: i64,
}
impl Message for PlaceOrder {
    const TYPE_NAME: &'static str = "Shop.Orders.Commands.PlaceOrder";
}
impl Command for PlaceOrder {
    type Output = String;
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    pub(crate) order_id: String,
    pub(crate) product_id: String,
    pub(crate) quantity: i64,
}
impl Message for OrderPlaced {
    const TYPE_NAME: &'static str = "Shop.Orders.Events.OrderPlaced";
}
impl Event for OrderPlaced {}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OrderPacked {
    pub(crate) order_id: String,
}
impl Message for OrderPacked {
    const TYPE_NAME: &'static str = "Shop.Orders.Events.OrderPacked";
}
impl Event for OrderPacked {}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ReceiveStock {
    pub(crate) product_id: String,
    pub(crate) quantity: i64,
}
impl Message for ReceiveStock {
    const TYPE_NAME: &'static str = "Shop.Stock.Commands.ReceiveStock";
}
impl Command for ReceiveStock {
    type Output = AggregateAnswer;
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ReserveStock {
    pub(crate) product_id: String,
    pub(crate) order_id: String,
    pub(crate) quantity: i64,
}
impl Message for ReserveStock {
    const TYPE_NAME: &'static str = "Shop.Stock.Commands.ReserveStock";
}
impl Command for ReserveStock {
    type Output = AggregateAnswer;
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StockReceived {
    pub(crate) quantity: i64,
}
impl Message for StockReceived {
    const TYPE_NAME: &'static str = "Shop.Stock.Events.StockReceived";
}
impl Event for StockReceived {}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StockReserved {
    pub(crate) order_id: String,
    pub(crate) quantity: i64,
}
impl Message for StockReserved {
    const TYPE_NAME: &'static str = "Shop.Stock.Events.StockReserved";
}
impl Event for StockReserved {}

command_set! {
    /// What the stock of a product takes.
    pub(crate) enum StockCommand { ReceiveStock, ReserveStock }
}
event_set! {
    /// What happens to the stock of a product.
    pub(crate) enum StockEvent { StockReceived, StockReserved }
}
