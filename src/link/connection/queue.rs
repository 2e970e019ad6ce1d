//! The queue of what one caller's calls yield.
//!
//! One is made for each call, so it has to be small: a general channel holds blocks of some kilobytes. Room for a final
//! event is reserved when its call is sent, and counts against nobody else's.
//! Invariant: what has room is always taken.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use tokio::task::coop::cooperative;

use super::Event;

/// A queue in which so many events may wait, those not counted that have room of their own.
pub fn channel(events_max: usize) -> (Sender, Receiver) {
    let queue = Arc::new(Queue { events_max, state: Mutex::new(State { senders: 1, ..State::default() }) });
    (Sender(queue.clone()), Receiver(queue))
}

#[derive(Debug)]
struct Queue {
    events_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    /// Who may still put something in; [`Room`]s too.
    senders: usize,
    /// Nobody reads any more.
    closed: bool,
    reader: Option<Waker>,
}

/// There is no room, or nobody reads.
#[derive(Debug, PartialEq, Eq)]
pub struct NotTaken;

#[derive(Debug)]
pub struct Sender(Arc<Queue>);

/// A sender that keeps nothing open.
#[derive(Debug)]
pub struct WeakSender(Weak<Queue>);

/// Room for one final event.
#[derive(Debug)]
pub struct Room(Sender);

/// The end that is read. Only one reads.
#[derive(Debug)]
pub struct Receiver(Arc<Queue>);

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event, events_max: usize) -> Result<(), NotTaken> {
        let reader = {
            let mut state = self.state();
            if state.closed || state.events.len() >= events_max {
                return Err(NotTaken);
            }
            state.events.push_back(event);
            state.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.state();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.senders == 0 {
            return Poll::Ready(None);
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
            state.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Sender {
    /// Puts an event in, if there is room.
    pub fn try_send(&self, event: Event) -> Result<(), NotTaken> {
        self.0.push(event, self.0.events_max)
    }

    /// Keeps room for one final event; none where nobody reads.
    pub fn reserve(&self) -> Option<Room> {
        let closed = self.0.state().closed;
        (!closed).then(|| Room(self.clone()))
    }

    pub fn downgrade(&self) -> WeakSender {
        WeakSender(Arc::downgrade(&self.0))
    }
}

impl Clone for Sender {
    fn clone(&self) -> Sender {
        self.0.state().senders += 1;
        Sender(self.0.clone())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let reader = {
            let mut state = self.0.state();
            state.senders -= 1;
            (state.senders == 0).then(|| state.reader.take()).flatten()
        };
        reader.into_iter().for_each(Waker::wake);
    }
}

impl WeakSender {
    /// A sender, as long as there is another.
    pub fn upgrade(&self) -> Option<Sender> {
        let queue = self.0.upgrade()?;
        let mut state = queue.state();
        if state.senders == 0 {
            return None;
        }
        state.senders += 1;
        drop(state);
        Some(Sender(queue))
    }
}

impl Room {
    /// Puts the final event in.
    pub fn send(self, event: Event) {
        let _ = self.0.0.push(event, usize::MAX);
    }

    /// The queue it is in, for what comes before.
    pub fn queue(&self) -> &Sender {
        &self.0
    }
}

impl Receiver {
    /// The next event; none once there is no sender and no room left.
    pub async fn recv(&mut self) -> Option<Event> {
        cooperative(poll_fn(|context| self.0.poll(context))).await
    }

    /// What waits now.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.0.state().events.pop_front()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let events = {
            let mut state = self.0.state();
            state.closed = true;
            std::mem::take(&mut state.events)
        };
        drop(events);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn event(text: &'static str) -> Event {
        Event::Progress(text.as_bytes().into())
    }

    fn text(event: Option<Event>) -> Option<String> {
        let Some(Event::Progress(bytes)) = event else { return None };
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn a_final_event_has_room_in_a_full_queue() {
        let (to, mut from) = channel(1);
        let room = to.reserve().expect("somebody reads");
        assert_eq!(to.try_send(event("1")), Ok(()));
        assert_eq!(to.try_send(event("2")), Err(NotTaken));
        room.send(event("3"));
        drop(to);
        assert_eq!(text(from.recv().await).as_deref(), Some("1"));
        assert_eq!(text(from.recv().await).as_deref(), Some("3"));
        assert!(from.recv().await.is_none());
    }

    #[tokio::test]
    async fn it_ends_with_its_last_sender_and_room() {
        let (to, mut from) = channel(1);
        let (weak, room) = (to.downgrade(), to.reserve().expect("somebody reads"));
        drop(to);
        assert!(from.recv().now_or_never().is_none(), "there is room that something may come into");
        let again = weak.upgrade().expect("the room keeps it open");
        drop(room);
        let told = tokio::spawn(async move { from.recv().await.is_none() });
        tokio::task::yield_now().await;
        drop(again);
        assert!(told.await.expect("no panic"));
        assert!(weak.upgrade().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_woken_and_nothing_is_kept_for_who_left() {
        let (to, mut from) = channel(8);
        let told = tokio::spawn(async move { (text(from.recv().await), from) });
        tokio::task::yield_now().await;
        assert_eq!(to.try_send(event("1")), Ok(()));
        let (first, from) = told.await.expect("no panic");
        assert_eq!(first.as_deref(), Some("1"));
        drop(from);
        assert_eq!(to.try_send(event("2")), Err(NotTaken));
        assert!(to.reserve().is_none());
    }
}
