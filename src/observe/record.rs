//! A call under way, to be counted when it ends, and written down where an audit is kept.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{
    audit::Audit,
    meter::{Call, Meter, Outcome, known},
    trace::Way,
};

/// A call under way. Dropped without an end it was cancelled.
pub struct Record {
    meter: Arc<Meter>,
    audit: Option<Arc<Audit>>,
    upstream: Arc<str>,
    revision: &'static str,
    began: Instant,
    sent: Option<Instant>,
    pub way: Way,
    /// None once it was told.
    call: Option<Call>,
}

/// What is known of a call when it begins.
pub struct Beginning<'a> {
    pub principal: Arc<str>,
    pub upstream: Arc<str>,
    pub method: &'a str,
    /// The tool or prompt that is called.
    pub name: Option<Arc<str>>,
    /// The client's.
    pub revision: &'static str,
    pub bytes_in: usize,
    pub way: Way,
}

impl Record {
    pub fn begin(meter: &Arc<Meter>, audit: Option<Arc<Audit>>, beginning: Beginning<'_>) -> Record {
        meter.begun();
        let Beginning { principal, upstream, method, name, revision, bytes_in, way } = beginning;
        let call = Call {
            at: SystemTime::now(),
            principal,
            method: known(method).map_or_else(|| method.to_owned().into(), Into::into),
            name,
            outcome: Outcome::Cancelled,
            took: Default::default(),
            bytes_in,
            bytes_out: 0,
        };
        let meter = meter.clone();
        Record { meter, audit, upstream, revision, began: Instant::now(), sent: None, way, call: Some(call) }
    }

    /// It is on its way to the upstream.
    pub fn sent(&mut self) {
        self.sent.get_or_insert_with(Instant::now);
    }

    /// It came to nothing, and nobody cancelled it.
    pub fn fails(&mut self) {
        self.call.iter_mut().for_each(|call| call.outcome = Outcome::Failed);
    }

    pub fn end(mut self, outcome: Outcome, bytes_out: usize) {
        if let Some(call) = &mut self.call {
            (call.outcome, call.bytes_out) = (outcome, bytes_out);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(mut call) = self.call.take() else { return };
        let now = Instant::now();
        call.took = now - self.began;
        self.way.end(call.outcome);
        if let Some(audit) = &self.audit {
            audit.write(&self.upstream, &call);
        }
        self.meter.ended(call, self.revision, self.sent.map(|sent| now - sent));
    }
}
