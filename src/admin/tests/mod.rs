//! Every rule of the admin listener: what is answered, to whom, and what never is.

mod access;
mod pages;
mod wire;

use std::collections::{BTreeMap, HashMap};

use http::HeaderMap;
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::{
    clock::Clock,
    cloudevent::Origin,
    config::Delivery,
    gateway::SharedBounds,
    identity::TypeFilter,
    limit::PerAddress,
    metrics::{RouteMetrics, SourceMetrics},
    scheme::{self, Assurance},
    secret::Secret,
    source::{App, Route, Source},
    units::Rate,
    upstream::{Format, Options, Roots, Signer, Upstream},
    vendor::{self, Plan},
};

/// Stands in every place that must not be shown.
const CANARY: &str = "canary-0123456789";
const HOST: &str = "127.0.0.1:9600";

struct Desk {
    admin: Admin,
    shared: Arc<Shared>,
    gateway: Arc<ArcSwap<Gateway>>,
    reloads: mpsc::Receiver<ReloadRequest>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

fn desk(api: ApiAccess) -> Desk {
    let shared = Shared::new(
        Clock::manual(Timestamp::UNIX_EPOCH),
        &SharedBounds { entries_max: 100, arrivals_max: 10, requests_max: 10, body_bytes_max: 1000 },
    );
    let gateway = Arc::new(ArcSwap::from_pointee(gateway(&shared, [])));
    let (sender, reloads) = mpsc::channel(1);
    let admin = Admin::new(Arc::clone(&shared), Arc::clone(&gateway), api, sender);
    Desk { admin, shared, gateway, reloads }
}

fn gateway<const N: usize>(shared: &Arc<Shared>, sources: [Source; N]) -> Gateway {
    let sources = sources.map(|source| (source.path.clone(), Arc::new(source)));
    Gateway {
        tls: false,
        paths: sources.iter().map(|(path, source)| (Arc::clone(&source.name), path.clone())).collect(),
        apps: BTreeMap::new(),
        sources: HashMap::from(sources),
        trusted_proxies: Vec::new(),
        per_address: Arc::new(PerAddress::new(Rate::Unlimited, &shared.clock)),
        body_bytes_max: 1000,
        structure_bytes_max: 0,
        body_timeout: Duration::from_secs(1),
        body_rate_min: 0,
        request_timeout: Duration::from_secs(1),
        schema: (Vec::new(), Arc::from("")),
        shared: Arc::clone(shared),
    }
}

fn source(shared: &Arc<Shared>, name: &str) -> Source {
    let file = vendor::builtin("sendauth").unwrap();
    let url = format!("http://127.0.0.1:1/hook?key={CANARY}");
    let secret = Secret::new(None, CANARY.into());
    let upstream = Upstream::open(
        "app",
        url.parse().unwrap(),
        Roots::new(None).unwrap(),
        Options::default(),
        shared.clock.clone(),
    );
    let signer = Signer::new(&[secret]).unwrap();
    let app = App { upstream, format: Format::default(), signer, schedule: Vec::new(), ordered: false };
    let verify = scheme::Settings { scheme: Some(scheme::SchemeName::None), ..scheme::Settings::default() };
    Source {
        name: name.into(),
        path: format!("/in/{name}").into(),
        plan: Arc::new(Plan::compile("sendauth", &file, vendor::Options::default()).unwrap()),
        verifier: verify.compile(&[], None).unwrap(),
        enforce: true,
        allow: None,
        budget: None,
        origin: Origin {
            source: CANARY.into(),
            type_prefix: String::new(),
            dataschema: None,
            vendor: "sendauth".into(),
        },
        routes: vec![Route {
            types: TypeFilter::all(),
            app: Arc::new(app),
            scope: 0,
            metrics: RouteMetrics::new(&shared.metrics, name, "app"),
        }],
        filters: TypeFilter::all(),
        forward_tests: false,
        delivery: Delivery::Direct,
        dedup_window: Duration::ZERO,
        max_age: None,
        success_status: StatusCode::OK,
        limited_status: StatusCode::TOO_MANY_REQUESTS,
        time_budget: Duration::ZERO,
        unsigned: Assurance::Network,
        metrics: SourceMetrics::new(&shared.metrics, name, "sendauth", [], []),
        last: Arc::default(),
    }
}

/// `METHOD /path`, and headers; without a Host, [`HOST`] is asked.
fn request(line: &str, headers: &[(&str, &str)]) -> Request<()> {
    let (method, uri) = line.split_once(' ').unwrap();
    let host = ("host", HOST);
    let named = headers.iter().any(|(name, _)| *name == "host");
    let headers = headers.iter().chain((!named).then_some(&host));
    headers
        .fold(Request::builder().method(method).uri(uri), |request, (name, value)| {
            request.header(*name, *value)
        })
        .body(())
        .unwrap()
}

impl Desk {
    async fn send(&self, peer: &str, request: Request<()>) -> Answer {
        let (head, body) = self.admin.answer(peer.parse().unwrap(), request).await.into_parts();
        assert_eq!(head.headers["cache-control"], "no-store");
        assert_eq!(head.headers["x-content-type-options"], "nosniff");
        assert!(!head.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(!body.contains(CANARY), "{body}");
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("127.0.0.1:5000", request(line, headers)).await
    }

    async fn status(&self, line: &str, headers: &[(&str, &str)]) -> u16 {
        self.ask(line, headers).await.status
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}
