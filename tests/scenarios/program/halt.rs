//! Where a program waits for a line on its standard input: there it is killed, or put to sleep, or told to go on.

use std::io::stdin;

use crate::{report, work::Report};

/// The place where a process halts; `no` is nowhere.
#[derive(Debug, Clone)]
pub(crate) struct Halt(String);

impl Halt {
    pub(crate) fn at(place: &str) -> Self {
        Self(place.to_owned())
    }

    /// Says that it is there and waits, if this is the place. Blocks the thread.
    pub(crate) fn here(&self, place: &str) {
        if self.0 == place {
            report(&Report::Halted);
            stdin().read_line(&mut String::new()).unwrap();
        }
    }

    /// The same for who must not block.
    pub(crate) async fn waits_here(&self, place: &str) {
        let (halt, place) = (self.clone(), place.to_owned());
        tokio::task::spawn_blocking(move || halt.here(&place))
            .await
            .unwrap();
    }
}
