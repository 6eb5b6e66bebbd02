//! The clock and the randomness that the engines under test are given.

use jiff::Timestamp;
use rowcall_core::{Clock, IdSource};
use uuid::Uuid;

/// The wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that the engines are given"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RandomIds;

impl IdSource for RandomIds {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the id source that the engines are given"
    )]
    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn unit(&self) -> f64 {
        rand::random()
    }
}
