//! What goes to the peer, and is shown where it passes.

use super::*;
use crate::link::tap::Passed;

impl Inner {
    /// Queues a message, and shows it where it passes: once there is room.
    pub(super) async fn pass(&self, outbound: Outbound) -> Result<(), mpsc::error::SendError<()>> {
        let room = self.to.reserve().await?;
        self.show(Passed::To(&outbound));
        room.send(outbound);
        Ok(())
    }

    /// Queues a message that nobody waits for.
    pub(super) fn post(self: &Arc<Self>, bytes: Bytes) {
        match self.to.try_reserve() {
            Ok(room) => {
                let outbound = bytes.into();
                self.show(Passed::To(&outbound));
                room.send(outbound);
            }
            Err(mpsc::error::TrySendError::Closed(())) => {}
            Err(mpsc::error::TrySendError::Full(())) => {
                // As many tasks as calls at most; each ends with the queue.
                let inner = self.clone();
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(async move { inner.pass(bytes.into()).await });
                }
            }
        }
    }

    /// Off, this is all that a tap costs.
    pub(super) fn show(&self, passed: Passed) {
        if let Some(probe) = self.probe.get() {
            probe.show(passed);
        }
    }
}
