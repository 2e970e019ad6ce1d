//! Signals become one token and one deadline.
//!
//! SIGTERM or SIGINT: finish. A second one: end at once. SIGHUP: read the configuration again.

#![cfg_attr(docsrs, doc(hidden))]

use tokio_util::sync::CancellationToken;

/// What signals asked for.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// Finish what is under way, then end.
    pub soon: CancellationToken,
    /// End now.
    pub now: CancellationToken,
}

impl Shutdown {
    /// Listens for signals on the current runtime; `hangup` is called for each SIGHUP.
    #[cfg(unix)]
    pub fn listen(hangup: impl Fn() + 'static) -> std::io::Result<Shutdown> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Shutdown::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang = signal(SignalKind::hangup())?;
        let told = shutdown.clone();
        actix_web::rt::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = terminate.recv() => told.signal("SIGTERM"),
                    Some(()) = interrupt.recv() => told.signal("SIGINT"),
                    Some(()) = hang.recv() => hangup(),
                    else => return,
                }
            }
        });
        Ok(shutdown)
    }

    #[cfg(not(unix))]
    pub fn listen(_hangup: impl Fn() + 'static) -> std::io::Result<Shutdown> {
        let shutdown = Shutdown::default();
        let told = shutdown.clone();
        actix_web::rt::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                told.signal("Ctrl-C");
            }
        });
        Ok(shutdown)
    }

    fn signal(&self, name: &str) {
        match self.soon.is_cancelled() {
            false => tracing::info!("{name}: finishing; a second one ends at once"),
            true => self.now.cancel(),
        }
        self.soon.cancel();
    }
}
