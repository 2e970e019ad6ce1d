//! A bounded queue before a thread that writes: whoever has something to say never waits for a disk or a reader.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// Patience at the end, for what waits still.
const FLUSH_EVERY: Duration = Duration::from_millis(10);
const FLUSH_MAX: u32 = 50;

/// The way in. The thread ends when the last one is gone.
pub(super) struct Queue<T> {
    items: SyncSender<T>,
    waiting: Arc<AtomicU64>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue { items: self.items.clone(), waiting: self.waiting.clone() }
    }
}

/// The way out, for the thread.
pub(super) struct Items<T> {
    items: Receiver<T>,
    waiting: Arc<AtomicU64>,
}

impl<T: Send + 'static> Queue<T> {
    /// Starts the thread.
    pub(super) fn start(
        thread: &str,
        max: usize,
        write: impl FnOnce(Items<T>) + Send + 'static,
    ) -> io::Result<Queue<T>> {
        let (sender, items) = sync_channel(max);
        let waiting = Arc::new(AtomicU64::new(0));
        let queue = Queue { items: sender, waiting: waiting.clone() };
        thread::Builder::new().name(thread.into()).spawn(move || write(Items { items, waiting }))?;
        Ok(queue)
    }

    /// Puts something in. Answers whether there was room.
    pub(super) fn offer(&self, item: T) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let taken = self.items.try_send(item).is_ok();
        if !taken {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Gives what waits a moment to be written.
    pub(super) fn flush(&self) {
        for _ in 0..FLUSH_MAX {
            if self.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            thread::sleep(FLUSH_EVERY);
        }
    }
}

impl<T> Items<T> {
    /// Hands each to `write`; what it waits for longer than `pause` is worth a look round.
    pub(super) fn each(&self, pause: Duration, mut write: impl FnMut(Option<T>)) {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        loop {
            match self.items.recv_timeout(pause) {
                Ok(item) => {
                    write(Some(item));
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                Err(Timeout) => write(None),
                Err(Disconnected) => return,
            }
        }
    }
}
