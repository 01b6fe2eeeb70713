//! What each stage costs by itself: `cargo bench --bench stages`, with a filter behind `--` if one is enough.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark knows its texts")]
#![allow(missing_docs, reason = "criterion's macros make functions")]

mod payload;

use std::{hint::black_box, net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hookwarden::{
    clock::Clock,
    cloudevent::{Envelope, Origin},
    fields::Fields,
    identity::Recipe,
    json::Document,
    limit::{Budget, PerAddress},
    scheme::{Assurance, Request, Settings},
    secret::Secret,
    store::{Claim, Memory},
    upstream::Signer,
    vendor::{BUILTIN, Extent, Options, Plan, Reading, builtin, encode},
};
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

const SECRET: &[u8] = b"a-secret-of-the-benchmark";
const SIZES: [(&str, usize); 3] = [("1k", 1 << 10), ("16k", 16 << 10), ("256k", 256 << 10)];

fn body(bytes: usize) -> Bytes {
    payload::approval(1, bytes).into()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_793_000_000).unwrap()
}

/// A request's signature, for the schemes of most vendors.
fn scheme(c: &mut Criterion) {
    let mut group = c.benchmark_group("scheme");
    let secrets = [Secret::new(None, SECRET.to_vec())];
    for (size, bytes) in SIZES {
        let body = body(bytes);
        group.throughput(Throughput::Bytes(body.len() as u64));
        let digest = hex::encode(Sha256::new().chain_update(SECRET).chain_update(&body).finalize());
        let schemes = [
            (
                "digest",
                r#"scheme = "digest"
header = "x-signature""#,
                digest.clone(),
            ),
            (
                "hmac",
                r#"scheme = "hmac"
header = "x-signature"
template = "{body}""#,
                digest,
            ),
        ];
        for (name, settings, signature) in schemes {
            let settings: Settings = toml::from_str(settings).unwrap();
            let verifier = settings.compile(&secrets, None).unwrap();
            let headers = HeaderMap::from_iter([(
                "x-signature".parse().unwrap(),
                HeaderValue::try_from(signature).unwrap(),
            )]);
            let request = Request { headers: &headers, method: &Method::POST, query: None, body: &body };
            // The hash of an HMAC that does not fit costs what one that fits does.
            group.bench_function(format!("{name}/{size}"), |b| {
                b.iter(|| drop(verifier.verify(&request, now())))
            });
        }
        let signer = Signer::new(&secrets).unwrap();
        group.bench_function(format!("sign/{size}"), |b| {
            b.iter_batched_ref(
                Vec::new,
                |out| signer.sign(out, "hw1_", "1793000000", &body),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// The strict reader of documents.
fn json(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    for (size, bytes) in SIZES {
        let body = body(bytes);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(size, |b| b.iter(|| Document::parse(black_box(body.clone())).unwrap()));
    }
    group.finish();
}

fn plan(vendor: &str) -> Plan {
    Plan::compile(vendor, &builtin(vendor).unwrap(), Options::default()).unwrap()
}

fn read(plan: &Plan, body: Bytes) -> (Document, Reading) {
    let document = Document::parse(body).unwrap();
    let reading = plan.read(&document, Extent::Data).unwrap().remove(0);
    (document, reading)
}

/// What a vendor's document means: its first sample, and large approvals.
fn mapping(c: &mut Criterion) {
    let mut group = c.benchmark_group("mapping");
    let samples = BUILTIN.iter().map(|(vendor, _)| {
        ((*vendor).to_owned(), *vendor, Bytes::from(builtin(vendor).unwrap().sample.remove(0).body))
    });
    let approvals = SIZES.map(|(size, bytes)| (format!("approval-{size}"), "sendauth", body(bytes)));
    for (name, vendor, body) in samples.chain(approvals) {
        let plan = plan(vendor);
        let document = Document::parse(body).unwrap();
        group.bench_function(name, |b| b.iter(|| plan.read(black_box(&document), Extent::Data).unwrap()));
    }
    group.finish();
}

/// What the app gets.
fn envelope(c: &mut Criterion) {
    let mut group = c.benchmark_group("envelope");
    let plan = plan("sendauth");
    let origin = Origin {
        source: "https://hooks.example.com/sendauth".into(),
        type_prefix: "dev.hookwarden".into(),
        dataschema: None,
        vendor: "sendauth".into(),
    };
    let verification = encode::Verification {
        method: "none",
        header: None,
        assurance: Assurance::Signed,
        key_id: None,
        body_sha256: None,
    };
    for (size, bytes) in SIZES {
        let (document, reading) = read(&plan, body(bytes));
        let envelope = Envelope {
            origin: &origin,
            id: Recipe::new("sendauth").id(),
            reading: &reading,
            received_at: now(),
            assurance: Assurance::Signed,
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        };
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("structured/{size}"), |b| {
            b.iter(|| {
                envelope.structured(2048 + bytes, |out| {
                    encode::data(out, &plan, &reading, &document, now(), &verification);
                })
            });
        });
        if bytes == SIZES[0].1 {
            group.bench_function("binary", |b| {
                b.iter_batched_ref(
                    || Fields::behind("", 4096),
                    |fields: &mut Fields| envelope.binary(fields, false),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// One claim and its end, among so many that are remembered.
fn claim(c: &mut Criterion) {
    let mut group = c.benchmark_group("claim");
    let keep = Duration::from_secs(96 * 3600);
    let settle = |store: &std::sync::Arc<Memory>, key: u128| match store.claim(key, keep) {
        Claim::Mine(lease) => lease.settle(keep),
        Claim::InFlight(_) | Claim::Done => {}
    };
    for ids in [1_000_u32, 1_000_000] {
        let store = Memory::new(
            ids as usize,
            prometheus_client::metrics::counter::Counter::default(),
            &Clock::system(),
        );
        // Keys are hashes: no two beside each other.
        let mut key = 1_u128;
        let mut next = move || {
            key = key.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(1);
            key
        };
        (0..ids).for_each(|_| settle(&store, next()));
        group.bench_function(format!("new, {ids} ids"), |b| b.iter(|| settle(&store, next())));
        settle(&store, 1);
        group.bench_function(format!("duplicate, {ids} ids"), |b| b.iter(|| store.claim(black_box(1), keep)));
    }
    group.finish();
}

/// Budgets: taken from and, once used up, refused.
fn meter(c: &mut Criterion) {
    let mut group = c.benchmark_group("meter");
    let rate = "1000000/s burst 1000000".parse().unwrap();
    let clock = Clock::system();
    let budget = Budget::new(rate, "source", &clock);
    group.bench_function("source", |b| b.iter(|| budget.take().is_ok()));
    let addresses = PerAddress::new(rate, &clock);
    let mut address = 0_u32;
    group.bench_function("1,000 addresses", |b| {
        b.iter(|| {
            address = (address + 1) % 1000;
            addresses.take(Ipv4Addr::from_bits(address).into()).is_ok()
        });
    });
    group.finish();
}

criterion_group!(stages, scheme, json, mapping, envelope, claim, meter);
criterion_main!(stages);
