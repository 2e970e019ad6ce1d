//! Where the requests of one POST are served: the connection they sit on, and the wait for it.

use std::{sync::Arc, time::Instant};

use futures_util::future::poll_immediate;

use super::{
    Calls, RENEWALS_MAX,
    crossing::{self, Crossing},
};
use crate::{
    bridge::Bridged,
    hub::{
        isolation::{Seat, seat, seat_at_once},
        upstream::Unavailable,
    },
    wire::Id,
};

impl Calls {
    /// The connection of these calls; none where the client cancels the request before there is one.
    pub(super) async fn sit(&mut self, id: &Id) -> Result<Option<Arc<Bridged>>, Unavailable> {
        if let Some(seat) = &self.seat {
            return Ok(Some(seat.bridged().clone()));
        }
        let Some(seat) = self.wait_for_seat(id).await? else { return Ok(None) };
        let bridged = seat.bridged().clone();
        self.session.uses(&bridged);
        // The wait for a process is not the call's.
        let now = Instant::now();
        self.deadline = now + self.limit;
        self.last_deadline = now + self.limit * RENEWALS_MAX;
        self.seat = Some(seat);
        if crossing::is_needed(&self.session, &bridged) {
            self.crossing.get_or_insert_with(|| Box::new(Crossing::new(&self.session, &self.route)));
        }
        Ok(Some(bridged))
    }

    pub(super) fn stand(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.session.used(seat.bridged());
        }
    }

    /// A connection; none where the client cancels the request before there is one.
    async fn wait_for_seat(&mut self, id: &Id) -> Result<Option<Seat>, Unavailable> {
        if let Some(seat) = seat_at_once(&self.route, &self.session) {
            return Ok(Some(seat));
        }
        let (route, session) = (self.route.clone(), self.session.clone());
        let mut seat = Box::pin(seat(&route, &session));
        if let Some(seat) = poll_immediate(&mut seat).await {
            return seat.map(Some);
        }
        let open: Vec<Id> = self.open.iter().filter_map(|request| request.id().cloned()).collect();
        let waiting = self.waiting.get_or_insert_with(|| session.waits(&open));
        tokio::select! {
            seat = &mut seat => seat.map(Some),
            () = waiting.cancelled(id) => Ok(None),
        }
    }

    pub(super) fn was_cancelled(&self, id: &Id) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.is_cancelled(id))
    }
}
