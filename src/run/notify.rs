//! What systemd is told: ready, reloading, stopping, how it is, and that the workers live (`sd_notify`).
//!
//! A thread of its own says it, for systemd may be slow to listen. The watchdog is answered only where each worker has
//! just taken up a task: a timer alone would go on while they hang.

use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use crate::hub::House;
#[cfg(target_os = "linux")]
use crate::hub::routes::State;

/// What may wait to be said.
#[cfg(target_os = "linux")]
const NOTES_MAX: usize = 64;
/// How often the status is looked at.
#[cfg(target_os = "linux")]
const LOOK: Duration = Duration::from_secs(1);
/// Failed upstreams that the status names.
#[cfg(target_os = "linux")]
const NAMES_MAX: usize = 3;

#[cfg(target_os = "linux")]
#[derive(Debug, PartialEq)]
enum Note {
    Ready,
    Reloading,
    Stopping,
    Alive,
    Status(String),
}

/// Whoever started us and wants to know.
#[derive(Clone)]
pub struct Supervisor {
    #[cfg(target_os = "linux")]
    notes: SyncSender<Note>,
}

/// Says that the hub is ready, and from then on how it is; none where nobody wants to know. Runs on an actix System.
pub fn begin(house: &Arc<House>) -> Option<Supervisor> {
    #[cfg(target_os = "linux")]
    return linux(house);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = house;
        None
    }
}

impl Supervisor {
    /// The hub finishes.
    pub fn stopping(&self) {
        #[cfg(target_os = "linux")]
        self.say(Note::Stopping);
    }

    /// Nobody waits for systemd: what finds no room is not said.
    #[cfg(target_os = "linux")]
    fn say(&self, note: Note) {
        let _ = self.notes.try_send(note);
    }
}

#[cfg(target_os = "linux")]
fn linux(house: &Arc<House>) -> Option<Supervisor> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())?;
    let (notes, said) = sync_channel(NOTES_MAX);
    let thread = std::thread::Builder::new().name("systemd".into()).spawn(move || say_all(&said));
    if let Err(error) = thread {
        tracing::warn!("systemd cannot be told that the hub is ready: {error}");
        return None;
    }
    let supervisor = Supervisor { notes };
    let herald = supervisor.clone();
    let _ = house.herald.set(Box::new(move |begins| herald.say(if begins { Note::Reloading } else { Note::Ready })));
    supervisor.say(Note::Status(status(house)));
    supervisor.say(Note::Ready);
    tokio::spawn(tell_status(house.clone(), supervisor.clone()));
    if let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) {
        tokio::spawn(answer_watchdog(house.clone(), supervisor.clone(), period));
    }
    Some(supervisor)
}

/// Says everything, in order. After the farewell nothing is said that would undo it.
#[cfg(target_os = "linux")]
fn say_all(notes: &Receiver<Note>) {
    use sd_notify::NotifyState;
    let (mut leaving, mut complained) = (false, false);
    while let Ok(note) = notes.recv() {
        let states = match &note {
            Note::Ready | Note::Reloading if leaving => continue,
            Note::Ready => vec![NotifyState::Ready],
            // Without the time systemd could not tell an answer to its signal from what came before.
            Note::Reloading => {
                [NotifyState::Reloading].into_iter().chain(NotifyState::monotonic_usec_now().ok()).collect()
            }
            Note::Stopping => vec![NotifyState::Stopping],
            Note::Alive => vec![NotifyState::Watchdog],
            Note::Status(text) => vec![NotifyState::Status(text)],
        };
        leaving |= note == Note::Stopping;
        if let Err(error) = sd_notify::notify(&states)
            && !std::mem::replace(&mut complained, true)
        {
            tracing::warn!("systemd cannot be told how the hub is: {error}");
        }
    }
}

#[cfg(target_os = "linux")]
async fn tell_status(house: Arc<House>, supervisor: Supervisor) {
    let mut said = status(&house);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = status(&house);
        if now != said {
            supervisor.say(Note::Status(now.clone()));
            said = now;
        }
    }
}

/// Thrice in a period, so that one late answer is none too many.
#[cfg(target_os = "linux")]
async fn answer_watchdog(house: Arc<House>, supervisor: Supervisor, period: Duration) {
    loop {
        match house.engine.workers.are_alive(period / 3).await {
            true => supervisor.say(Note::Alive),
            false => tracing::error!("a worker takes up no work: systemd's watchdog is not answered"),
        }
        tokio::time::sleep(period / 3).await;
    }
}

/// One line for `systemctl status`.
#[cfg(target_os = "linux")]
fn status(house: &House) -> String {
    let table = house.table.load();
    let (mut ready, mut failed) = (0, Vec::new());
    for (name, route) in &table.by_name {
        match route.serving.status.load().state {
            State::Ready => ready += 1,
            State::Failed => failed.push(name.as_str()),
            _ => {}
        }
    }
    let told = house.status.load();
    let finishing = if house.leaving.is_cancelled() { "finishing; " } else { "" };
    let mut line = format!("{finishing}{} upstreams, {ready} of them running", table.by_name.len());
    if !failed.is_empty() {
        let more = if failed.len() > NAMES_MAX { " …" } else { "" };
        line += &format!("; failed: {}{more}", failed[..failed.len().min(NAMES_MAX)].join(" "));
    }
    line += &format!("; generation {}", told.generation);
    if told.rejected.is_some() {
        line += "; the last edit was rejected: hubward status";
    }
    line
}
