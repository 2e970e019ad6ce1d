//! Clients that leave over HTTP/2.
//!
//! Over HTTP/1.1 what is done for a client that left is dropped. Over HTTP/2 each request is a task of its own that
//! nobody ends; but its body, once read, yields an error from then on. So it is looked at now and then.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use actix_web::{
    Error, FromRequest, HttpRequest,
    body::{BodySize, BoxBody, MessageBody},
    dev::Payload,
    error::PayloadError,
    web,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep};

use super::crowd::Place;

/// The first looks are this far apart,
const LOOK_MIN: Duration = Duration::from_millis(100);
/// and those at what is open for long, so that ten thousand idle streams cost a hundredth of a core.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// A part of its age is the most that is done in vain.
const LOOK_PART: u32 = 50;

/// A request's body in two hands: one reads it, the other notices that the client is gone.
struct Body {
    payload: web::Payload,
    /// It was read to its end.
    over: bool,
}

/// Gives the body to a reader, and a future that is ready when the client has left.
pub async fn share(request: &HttpRequest, payload: web::Payload) -> Result<(web::Payload, Gone), Error> {
    let body = Rc::new(RefCell::new(Body { payload, over: false }));
    let reader: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> = Box::pin(Reader(body.clone()));
    let reader = web::Payload::from_request(request, &mut Payload::Stream { payload: reader }).await?;
    Ok((reader, Gone { body, began: Instant::now(), look: Box::pin(sleep(LOOK_MIN)) }))
}

struct Reader(Rc<RefCell<Body>>);

impl Stream for Reader {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut body = self.0.borrow_mut();
        let chunk = ready!(body.payload.poll_next_unpin(context));
        body.over |= !matches!(chunk, Some(Ok(_)));
        Poll::Ready(chunk)
    }
}

/// Ready when the client has left.
pub struct Gone {
    body: Rc<RefCell<Body>>,
    began: Instant,
    look: Pin<Box<Sleep>>,
}

impl Future for Gone {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.look.as_mut().poll(context));
            if self.is_so() {
                return Poll::Ready(());
            }
            let pause = (self.began.elapsed() / LOOK_PART).clamp(LOOK_MIN, LOOK_MAX);
            self.look.as_mut().reset(Instant::now() + pause);
        }
    }
}

impl Gone {
    fn is_so(&self) -> bool {
        // Who still reads the body hears of it there; and nothing may be taken away from under it.
        let is_read = Rc::strong_count(&self.body) > 1;
        let mut body = self.body.borrow_mut();
        if is_read && !body.over {
            return false;
        }
        let chunk = body.payload.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        matches!(chunk, Poll::Ready(Some(Err(_))))
    }
}

/// A response's body, for as long as the client is there.
pub struct Until {
    pub body: BoxBody,
    pub gone: Gone,
    pub _place: Option<Place>,
}

impl MessageBody for Until {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    /// The end of a refusal is an error, to cut the connection; here its end is its end, for others share that.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if Pin::new(&mut self.gone).poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let chunk = ready!(Pin::new(&mut self.body).poll_next(context));
        Poll::Ready(chunk.and_then(Result::ok).map(Ok))
    }
}
