//! Admit: which clients may send, and how often. Before verification, so by address alone.

use crate::{
    event::Routed,
    gateway::Gateway,
    rejection::{Code, Rejection},
    source::Source,
};

/// The stage.
pub fn admit<B>(gateway: &Gateway) -> impl FnMut(Routed<B>) -> Result<Routed<B>, Rejection> + Clone {
    move |request| {
        if !request.source.lets(request.client) {
            return Err(Rejection::new(Code::AddressRefused, "not in `allow`"));
        }
        gateway
            .per_address
            .take(request.client)
            .map_err(|limited| in_vendor_s_words(limited, &request.source))?;
        Ok(request)
    }
}

/// A vendor that gives events up on any 4xx has a status of its own for limits.
pub(super) fn in_vendor_s_words(limited: Rejection, source: &Source) -> Rejection {
    if let Some(limit) = &limited.limit {
        source.metrics.limited(limit.policy).inc();
    }
    Rejection { status: Some(source.limited_status), ..limited }
}
