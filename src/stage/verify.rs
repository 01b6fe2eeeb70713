//! Verify: is the request the vendor's? On the very bytes that are read and forwarded afterwards.

use crate::{
    event::{Arrival, Verified},
    rejection::{Code, Rejection},
    scheme::{Mismatch, Proof, Request},
    vendor::Extent,
};

/// The stage. A signed time is held against that of receipt.
pub fn verify(arrival: Arrival) -> Result<Verified, Rejection> {
    let source = &arrival.source;
    let request = Request {
        headers: &arrival.head.headers,
        method: &arrival.head.method,
        query: arrival.head.uri.query(),
        body: &arrival.body,
    };
    let verified = match source.wanted() {
        // `data` holds the body's own sum.
        Extent::Data => source.verifier.verify_and_sum(&request, arrival.received.at),
        Extent::Attributes => source.verifier.verify(&request, arrival.received.at),
    };
    let proof = match verified {
        Ok(proof) => {
            source.metrics.verified(proof.key_id().map_or("", |id| id));
            proof
        }
        Err(Mismatch::NotJson) => {
            source.metrics.unverified(Mismatch::NotJson.as_str());
            return Err(Rejection::new(Code::MalformedBody, "signed, but not one JSON document"));
        }
        Err(mismatch) => {
            source.metrics.unverified(mismatch.as_str());
            if source.enforce {
                return Err(Rejection::new(Code::Unverified, mismatch.to_string()));
            }
            tracing::warn!(source = %source.name, reason = mismatch.as_str(), "unverified, and not enforced: it goes on");
            Proof::report_only(&mismatch)
        }
    };
    Ok(Verified::new(arrival, proof))
}
