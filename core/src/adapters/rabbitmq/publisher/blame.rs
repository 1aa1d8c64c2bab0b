//! Whose fault it was that the broker closed the channel.

use std::{collections::VecDeque, sync::atomic::Ordering};

use super::{
    super::{
        Core,
        error::{is_too_large, of_reply, reply},
    },
    WINDOW,
    item::Item,
};
use crate::ports::BusError;

/// A message that was published so often when the broker closed the connection is what it does not like.
pub(super) const TRIES: u8 = 5;

/// Finds which messages made the broker close the channel, tells who sent them, and leaves the others to be published again. Returns how many
/// may be on their way at once: one, when it cannot be told whose fault it was.
pub(super) fn blame(
    core: &Core,
    again: &mut VecDeque<Item>,
    error: &lapin::Error,
    on_its_way: usize,
) -> usize {
    let Some((code, text)) = reply(error) else {
        return WINDOW;
    };
    if error.is_amqp_hard_error() {
        // The connection was closed, most likely for a reason of the broker's own.
        refuse(again, |item| item.tries >= TRIES, || of_reply(code, text));
        return WINDOW;
    }
    tracing::warn!(
        code,
        text,
        "the broker closed the channel that messages are published on"
    );
    if is_too_large(code, text)
        && let Some(max) = text
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse::<usize>().ok())
            .next_back()
    {
        core.largest.store(max, Ordering::Relaxed);
        refuse_each(again, |item| {
            (item.body_len() > max).then(|| item.too_large(text))
        });
        return WINDOW;
    }
    // An exchange that was deleted is not declared again here: nobody would be bound to it, and every event would be lost without a word.
    if on_its_way == 1 {
        if let Some(item) = again.pop_front() {
            item.done.tell(Err(of_reply(code, text)));
        }
        return if again.is_empty() { WINDOW } else { 1 };
    }
    1
}

fn refuse(
    again: &mut VecDeque<Item>,
    guilty: impl Fn(&Item) -> bool,
    error: impl Fn() -> BusError,
) {
    refuse_each(again, |item| guilty(item).then(&error));
}

fn refuse_each(again: &mut VecDeque<Item>, fault: impl Fn(&Item) -> Option<BusError>) {
    for item in std::mem::take(again) {
        match fault(&item) {
            Some(error) => item.done.tell(Err(error)),
            None => again.push_back(item),
        }
    }
}
