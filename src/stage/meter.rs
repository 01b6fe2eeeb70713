//! Meter: the source's own budget. After verification and deduplication, so that neither forgeries nor duplicates spend
//! it. Over budget, the claim is released: the vendor's retry may go on.

use super::admit::in_vendor_s_words;
use crate::{event::Claimed, rejection::Rejection};

/// The stage.
pub fn meter(claimed: Claimed) -> Result<Claimed, Rejection> {
    let source = claimed.event().delivery().source();
    if let Some(budget) = &source.budget {
        budget.take().map_err(|limited| in_vendor_s_words(limited, source))?;
    }
    Ok(claimed)
}
