//! Collect: the body, whole, within its bounds of size and time and within what all bodies together may take.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tower::{BoxError, Service, ServiceExt};

use super::Reply;
use crate::{
    event::{Arrival, Routed},
    gateway::Gateway,
    rejection::{Code, Rejection},
};

/// How long a body may be on its way at whatever rate. Where `body_timeout` leaves large bodies more time, who sends a
/// byte now and then does not hold a place for all of it.
const UNHURRIED: Duration = Duration::from_secs(5);

/// Bytes of a body that are held, and that room is made for, before any of it is here.
const FIRST_BYTES_MAX: usize = 4 << 10;

/// Longest body, in bytes, that is copied out of the connection's buffer, which mostly has as many, and never more than
/// four times as many.
const COPIED_BYTES_MAX: usize = 8 << 10;

/// By how much a buffer is made longer than what is here: a long body is copied a few times on its way, not often.
const GROWTH: usize = 4;

/// The stage; `below` is the rest of the way.
pub async fn collect<S, B>(gateway: &Gateway, mut below: S, request: Routed<B>) -> Result<Reply, BoxError>
where
    S: Service<Arrival, Response = Reply, Error = BoxError>,
    B: Body<Data = Bytes> + Unpin,
{
    let Routed { source, head, body, client, received } = request;
    let (body, held) = read(body, received.since, gateway).await?;
    below.ready().await?.call(Arrival { source, head, body, client, received, held }).await
}

/// `began`: what its time counts from.
async fn read<B>(
    mut body: B,
    began: Instant,
    gateway: &Gateway,
) -> Result<(Bytes, OwnedSemaphorePermit), Rejection>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (bytes_max, budget) = (gateway.body_bytes_max, &gateway.shared.body_bytes);
    let due = |length| began + patience(length, gateway.body_timeout, gateway.body_rate_min);
    let too_large = || Rejection::new(Code::BodyTooLarge, "body_bytes_max");
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > bytes_max {
        return Err(too_large());
    }
    let longest = if declared > 0 { declared } else { bytes_max };
    // What is declared may never come: the rest is held as it arrives.
    let mut held = hold(budget, declared.min(FIRST_BYTES_MAX))?;
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    let mut length = 0;
    while let Some(frame) = timeout_at(due(length), body.frame())
        .await
        .map_err(|_| Rejection::new(Code::BodyTimeout, "the body is too slow"))?
    {
        let frame = frame.map_err(|_| Rejection::new(Code::MalformedRequest, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > bytes_max {
            return Err(too_large());
        }
        // Most bodies come in one piece, and are not copied. Others get a buffer that grows with them, and hold all of it.
        let in_one = first.is_empty() && whole.is_empty();
        let room = match whole.capacity() {
            _ if in_one => length,
            room if room >= length => room,
            _ => (GROWTH * length).min(longest).max(length),
        };
        if room > held.num_permits() {
            held.merge(hold(budget, room - held.num_permits())?);
        }
        if in_one {
            // Copied if it is small: a piece of the connection's buffer holds all of that, and the next one is made anew.
            first = if length > COPIED_BYTES_MAX { data } else { Bytes::copy_from_slice(&data) };
        } else {
            whole.reserve_exact(room - whole.len());
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok((if whole.is_empty() { first } else { whole.into() }, held))
}

/// How long a body may take of which so many bytes are here.
fn patience(length: usize, longest: Duration, rate_min: u64) -> Duration {
    let millis = (length as u64).saturating_mul(1000).checked_div(rate_min);
    let earned = millis.map_or(longest, Duration::from_millis);
    longest.min(UNHURRIED.saturating_add(earned))
}

/// So many of the bytes that may be held at once.
pub(super) fn hold(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Rejection> {
    let full = || Rejection::new(Code::Overloaded, "inflight_bytes_max is reached");
    let bytes = u32::try_from(bytes).map_err(|_| full())?;
    Arc::clone(budget).try_acquire_many_owned(bytes).map_err(|_| full())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_earns_its_time() {
        let seconds = Duration::from_secs;
        let patience = |length, longest, rate| patience(length, seconds(longest), rate);
        // What the body takes in all is the bound, unless that is long.
        assert_eq!(patience(0, 3, 4096), seconds(3));
        assert_eq!(patience(0, 60, 4096), seconds(5));
        assert_eq!(patience(8192, 60, 4096), seconds(7));
        assert_eq!(patience(1 << 30, 60, 4096), seconds(60));
        assert_eq!(patience(usize::MAX, 60, 1), seconds(60));
        assert_eq!(patience(0, 60, 0), seconds(60));
    }
}
