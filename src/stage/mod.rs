//! The stages of the stack, one a file, each a function. Most take a request and make the next or refuse it; those that
//! wrap the rest of the way (`observe`, `rescue`, `challenge`, `collect`, `normalize`, `dedup`) call it themselves.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod admit;
pub mod challenge;
pub mod collect;
pub mod dedup;
mod detach;
pub mod dispatch;
pub mod head;
pub mod meter;
pub mod normalize;
pub mod observe;
mod reply;
pub mod rescue;
pub mod route;
mod store;
pub mod verify;

use bytes::Bytes;
use http::Response;
use http_body_util::{Either, Full};
use tower::BoxError;
use tower_http::body::UnsyncBoxBody;

pub use self::reply::{Outcome, Reply};

/// What the server sends: what came back from the way, or an answer of `rescue`'s own.
pub type Answer = Response<Either<UnsyncBoxBody<Bytes, BoxError>, Full<Bytes>>>;
