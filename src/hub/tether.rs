//! Tells the owner when its actor ends, panics included.
//!
//! actix's own `Supervisor` does not survive a panic, but a value that the actor holds is dropped with it.

use actix::prelude::*;

use crate::config::Name;

/// An Upstream actor is no more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ended {
    pub name: Name,
    /// Which of the actors that bore this name.
    pub number: u64,
}

/// Held by an Upstream; its end is the message.
pub struct Tether {
    pub name: Name,
    pub number: u64,
    pub owner: Recipient<Ended>,
}

impl Drop for Tether {
    fn drop(&mut self) {
        // The one place for `do_send`: it cannot wait, it may not be lost, and it happens once per actor.
        #[allow(clippy::disallowed_methods)]
        self.owner.do_send(Ended { name: self.name.clone(), number: self.number });
    }
}
