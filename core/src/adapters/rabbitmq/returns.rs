//! How often a message came back without an answer, and what follows from that. Pure.

use std::collections::HashMap;

/// So many forgiven messages are remembered; then all are forgotten, which makes their counts a little too high.
const REMEMBERED: usize = 10_000;

/// What to do with a message that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Handle it like any other.
    Fine,
    /// It may have ended its process: handle it alone, so that no other message is counted with it.
    Suspect,
    /// It ended its process too often.
    Guilty,
}

/// The counts of one handler's messages.
#[derive(Debug)]
pub(super) struct Returns {
    limit: u32,
    /// Of returns that were no crash: the connection was lost, this process lives.
    forgiven: HashMap<String, u32>,
}

impl Returns {
    /// `limit` is `crash_limit`. Under 2 it would make the first crash the end of everything that was in hand with the guilty message.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: limit.max(2),
            forgiven: HashMap::new(),
        }
    }

    /// The broker's count for the message `id`, less what was no crash.
    pub(super) fn count(&self, id: Option<&str>, counted: u32) -> u32 {
        let forgiven = id.and_then(|id| self.forgiven.get(id)).copied();
        counted.saturating_sub(forgiven.unwrap_or(0))
    }

    /// What a count means. After the second return a message is handled alone, or after the first when the second is the limit.
    pub(super) fn verdict(&self, count: u32) -> Verdict {
        let suspect = (self.limit - 1).min(2);
        match count {
            count if count >= self.limit => Verdict::Guilty,
            count if count >= suspect => Verdict::Suspect,
            _ => Verdict::Fine,
        }
    }

    /// The connection was lost with the message `id` in hand: it will come again, with a count that is higher by one.
    pub(super) fn forgive(&mut self, id: &str) {
        if self.forgiven.len() >= REMEMBERED {
            self.forgiven.clear();
        }
        *self.forgiven.entry(id.to_owned()).or_default() += 1;
    }

    /// The message `id` is settled.
    pub(super) fn forget(&mut self, id: Option<&str>) {
        if let Some(id) = id
            && !self.forgiven.is_empty()
        {
            self.forgiven.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_suspected_before_it_is_guilty() {
        use Verdict::{Fine, Guilty, Suspect};
        let verdicts = |limit| {
            let returns = Returns::new(limit);
            (0..6)
                .map(|count| returns.verdict(count))
                .collect::<Vec<_>>()
        };
        assert_eq!(verdicts(5), [Fine, Fine, Suspect, Suspect, Suspect, Guilty]);
        assert_eq!(verdicts(3), [Fine, Fine, Suspect, Guilty, Guilty, Guilty]);
        assert_eq!(verdicts(2), [Fine, Suspect, Guilty, Guilty, Guilty, Guilty]);
        assert_eq!(verdicts(1), verdicts(2));
    }

    #[test]
    fn what_was_no_crash_is_forgiven_until_the_message_is_settled() {
        let mut returns = Returns::new(5);
        returns.forgive("a");
        returns.forgive("a");

        assert_eq!(returns.count(Some("a"), 3), 1);
        assert_eq!(returns.count(Some("a"), 1), 0);
        assert_eq!(
            (returns.count(Some("b"), 3), returns.count(None, 3)),
            (3, 3)
        );
        returns.forget(Some("a"));
        assert_eq!(returns.count(Some("a"), 3), 3);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut returns = Returns::new(5);
        for n in 0..=REMEMBERED {
            returns.forgive(&n.to_string());
        }
        assert_eq!(returns.forgiven.len(), 1);
    }
}
