//! The system's clock and randomness: the one place that reads them.

use jiff::Timestamp;
use rowcall_core::{Clock, IdSource};
use uuid::Uuid;

/// The system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else is given"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The system's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the id source that everything else is given"
    )]
    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn unit(&self) -> f64 {
        rand::random()
    }
}
