//! How much one HTTP/2 connection may ask for.
//!
//! It can carry requests without end, and actix sets no maximum to them (`SETTINGS_MAX_CONCURRENT_STREAMS` cannot be
//! reached from here). So they are counted. What is refused costs its head; who is not to be told is cut off.

use std::{cell::Cell, rc::Rc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderMap},
    },
};
use tokio::net::TcpStream;

/// Requests that one connection may have open: the clients of one proxy.
const OPEN_MAX: usize = 1000;
/// Refusals until it is cut off.
const REFUSED_MAX: usize = 10_000;
/// Every so many requests it is looked at whether it reads its answers,
const LOOK_EVERY: usize = 1000;
/// and after so many looks in a row that say no it is cut off.
const UNREAD_MAX: usize = 3;
/// The head of one request; a few bytes on the wire can stand for many.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What is known of one HTTP/2 connection, for its requests.
pub struct Crowd {
    open: Cell<usize>,
    asked: Cell<usize>,
    refused: Cell<usize>,
    unread: Cell<usize>,
    cut: Cell<bool>,
    #[cfg(unix)]
    socket: Option<std::os::fd::OwnedFd>,
}

impl Crowd {
    /// Of a connection that was just accepted. A second descriptor of its socket is what it can be cut off by.
    pub fn of(stream: &TcpStream) -> Rc<Crowd> {
        let zero = || Cell::new(0);
        #[cfg(unix)]
        let socket = std::os::fd::AsFd::as_fd(stream).try_clone_to_owned().ok();
        #[cfg(not(unix))]
        let _ = stream;
        let (open, asked, refused, unread) = (zero(), zero(), zero(), zero());
        Rc::new(Crowd {
            open,
            asked,
            refused,
            unread,
            cut: Cell::new(false),
            #[cfg(unix)]
            socket,
        })
    }

    /// A place for one more request, held until its answer has been sent.
    pub fn enter(request: &HttpRequest) -> Result<Option<Place>, StatusCode> {
        if bytes_of(request.headers()) > HEAD_BYTES_MAX {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        let Some(crowd) = request.conn_data::<Rc<Crowd>>() else { return Ok(None) };
        crowd.asked.set(crowd.asked.get() + 1);
        if crowd.asked.get() % LOOK_EVERY == 0 {
            crowd.unread.set(if crowd.reads() { 0 } else { crowd.unread.get() + 1 });
        }
        let full = crowd.open.get() >= OPEN_MAX;
        crowd.refused.set(crowd.refused.get() + usize::from(full));
        let over = crowd.unread.get() >= UNREAD_MAX || crowd.refused.get() > REFUSED_MAX;
        if over && !crowd.cut.replace(true) {
            crowd.cut_off();
        }
        if full {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        crowd.open.set(crowd.open.get() + 1);
        Ok(Some(Place(crowd.clone())))
    }

    /// Is there room for more answers?
    fn reads(&self) -> bool {
        #[cfg(unix)]
        if let Some(socket) = &self.socket {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut fds = [PollFd::new(socket, PollFlags::OUT)];
            return poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
        }
        true
    }

    fn cut_off(&self) {
        #[cfg(unix)]
        if let Some(socket) = &self.socket {
            tracing::warn!(asked = self.asked.get(), refused = self.refused.get(), "an HTTP/2 connection was cut off");
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}

/// The answer to a request that has no place: without a body, which would wait to be read.
pub fn refuse(status: StatusCode) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, 1));
    }
    response.finish()
}

fn bytes_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// One open request.
pub struct Place(Rc<Crowd>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}
