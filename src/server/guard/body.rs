//! A body is read up to its limit, and as long as it comes fast enough.

use std::time::Duration;

use actix_web::{HttpRequest, http::header, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::server::rescue::Refusal;

/// A body may be silent for this long,
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// begins within this time,
const GRACE: Duration = Duration::from_secs(5);
/// and from then on has come at this many bytes a second or more, on average: less than a poor mobile link carries.
/// So there is a deadline for the whole, by its size, and each second of holding a socket open costs the sender.
const RATE_MIN: usize = 16 << 10;

/// Reads a body. actix has a deadline for the head only.
pub async fn body(request: &HttpRequest, payload: &mut web::Payload, bytes_max: usize) -> Result<Bytes, Refusal> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > bytes_max) {
        return Err(Refusal::TooLarge(bytes_max));
    }
    let began = Instant::now();
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    loop {
        let come = first.len() + whole.len();
        let due = began + GRACE + Duration::from_secs_f64(come as f64 / RATE_MIN as f64);
        let next = timeout_at(due.min(Instant::now() + PAUSE_MAX), payload.next());
        let Some(chunk) = next.await.map_err(|_| Refusal::TooSlow(RATE_MIN >> 10))? else { break };
        let chunk = chunk.map_err(|_| Refusal::Incomplete)?;
        if come + chunk.len() > bytes_max {
            return Err(Refusal::TooLarge(bytes_max));
        }
        match come {
            // Most bodies are one chunk, and need no copy.
            0 => first = chunk,
            _ => {
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&chunk);
            }
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    /// Reads what comes in parts of these sizes, each after so many seconds, and then nothing any more or the end.
    async fn read(parts: &[(u64, usize)], ends: bool, bytes_max: usize) -> (Result<Bytes, Refusal>, Duration) {
        use actix_web::{FromRequest, dev};
        let parts = futures_util::stream::iter(parts.to_vec()).then(|(seconds, size)| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(Bytes::from(vec![b'x'; size]))
        });
        let parts = match ends {
            true => parts.boxed_local(),
            false => parts.chain(futures_util::stream::pending()).boxed_local(),
        };
        let request = TestRequest::post().to_http_request();
        let mut payload = web::Payload::from_request(&request, &mut dev::Payload::Stream { payload: parts }).await;
        let began = Instant::now();
        let outcome = body(&request, payload.as_mut().expect("a payload"), bytes_max).await;
        (outcome, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn f32_a_body_comes_at_a_least_rate_or_not_at_all() {
        // A second's worth, and what is a little more or less than that.
        let (least, more, less) = (RATE_MIN, RATE_MIN + 100, RATE_MIN - 100);
        let endless = 1 << 30;
        for (parts, seconds) in [
            // Nothing at all, one byte, one byte a second: the grace is all there is.
            (vec![], 5),
            (vec![(0, 1)], 5),
            (vec![(1, 1); 1000], 5),
            // Silence, however much came before; and the grace is used up at last.
            (vec![(0, least * 1000)], 10),
            (vec![(1, least / 2); 1000], 9),
        ] {
            let (refused, after) = read(&parts, false, endless).await;
            assert!(matches!(refused, Err(Refusal::TooSlow(_))), "{refused:?}");
            assert_eq!(after.as_secs(), seconds, "{parts:?}");
        }
        assert_eq!(read(&vec![(1, more); 100], true, endless).await.0.unwrap().len(), more * 100);
        assert_eq!(
            read(&[(4, 1), (0, least), (1, less), (1, less)], true, endless).await.0.unwrap().len(),
            3 * least - 199
        );
        assert!(read(&vec![(1, less); 1000], true, endless).await.0.is_err(), "a whole has a deadline by its size");
    }

    #[tokio::test(start_paused = true)]
    async fn f38_a_body_is_not_read_beyond_its_limit() {
        let (refused, after) = read(&[(1, 2); 1000], true, 5).await;
        assert!(matches!(refused, Err(Refusal::TooLarge(5))));
        assert_eq!(after, Duration::from_secs(3), "the third part was one too many");
    }
}
