//! stand-in
use std::{net::SocketAddr, sync::Arc};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::{mpsc, oneshot};
use crate::{gateway::{Gateway, Shared}, secret::Secret};
#[derive(Clone, Debug)]
pub struct Admin;
#[derive(Clone, Debug)]
pub enum ApiAccess { Off, Open, Token(Secret) }
#[derive(Debug)]
pub struct ReloadRequest(pub oneshot::Sender<Result<String, String>>);
impl Admin {
    pub fn new(_: Arc<Shared>, _: Arc<ArcSwap<Gateway>>, _: ApiAccess, _: mpsc::Sender<ReloadRequest>) -> Self { Self }
    pub async fn answer<B>(&self, _: SocketAddr, _: Request<B>) -> Response<Full<Bytes>> { Response::new(Full::default()) }
}
