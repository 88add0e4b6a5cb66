//! The output pump: what workers write, and what init says, to init's stderr.
//!
//! Owns the reading ends of the workers' stdout and stderr and everything that is written to init's stderr.
//! Bytes are read as soon as they are readable, cut into lines, and handed to one writer thread ([`Sink`]), so
//! that lines never mix and a stderr that nobody reads blocks neither the supervisor nor the reaping: when the
//! sink is full, the pump stops reading and the workers' pipes fill up, as they would without us.
//!
//! Nothing here decides anything about workers.

mod lines;
mod pump;
mod sink;
mod tail;

pub use lines::Style;
pub use pump::Pump;
pub use sink::{Pieces, Sink};
