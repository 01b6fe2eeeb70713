//! Verify: is the request the vendor's? On the very bytes that are read and forwarded afterwards.

use crate::{
    event::{Arrival, Verified},
    gateway::Gateway,
    rejection::{Code, Rejection},
    scheme::{Mismatch, Proof, Request},
};

/// The stage.
pub fn verify(gateway: &Gateway) -> impl FnMut(Arrival) -> Result<Verified, Rejection> + Clone {
    move |arrival| {
        let source = &arrival.source;
        let request = Request {
            headers: &arrival.head.headers,
            method: &arrival.head.method,
            query: arrival.head.uri.query(),
            body: &arrival.body,
        };
        let proof = match source.verifier.verify(&request, gateway.clock().now()) {
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
}
