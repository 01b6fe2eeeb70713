//! Signatures that vendors and their SDKs published, and some made by a vendor's documented algorithm.

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;

use super::{NOW, headers, secrets, settings};
use crate::scheme::{Mismatch, Request, Texts, encoding::base64};

const PUBLISHED: &str = include_str!("../../../tests/vectors/vectors.json");
const DERIVED: &str = include_str!("../../../tests/vectors/derived_vectors.json");

#[derive(Deserialize)]
struct Vector {
    vendor: String,
    scheme: String,
    secret: String,
    headers: std::collections::BTreeMap<String, String>,
    body: Option<String>,
    body_base64: Option<String>,
    url: Option<String>,
    now: Option<i64>,
    valid: bool,
    source: String,
    note: String,
}

/// The settings of a scheme by its name in the files. None: asymmetric or a JWT, which no settings can say.
fn scheme_settings(scheme: &str) -> Option<&'static str> {
    Some(match scheme {
        "standard-webhooks-v1" => "scheme = 'standard-webhooks'",
        "hub-sha256-hex" => "header = 'x-hub-signature-256'\nprefix = 'sha256='",
        "hub-sha512-hex" => "header = 'x-hub-signature'\nprefix = 'sha512='\nhash = 'sha512'",
        "hub-sha1-hex" => "header = 'x-hub-signature'\nprefix = 'sha1='\nhash = 'sha1'",
        "t-v1-hex-seconds" => "syntax = 'pairs'\ntemplate = '{timestamp}.{body}'",
        "t-v2-b64-seconds" => {
            "syntax = 'pairs'\nsignature_key = 'v2'\nencoding = 'base64'\ntemplate = '{timestamp}.{body}'"
        }
        "t-s-hex-millis" => {
            "syntax = 'pairs'\nsignature_key = 's'\ntimestamp_unit = 'ms'\ntemplate = '{timestamp}.{body}'"
        }
        "slack-v0-hex" => {
            "prefix = 'v0='\ntemplate = 'v0:{timestamp}:{body}'\ntimestamp_header = 'x-slack-request-timestamp'"
        }
        "body-hmac-hex" => "",
        "body-hmac-b64" => "encoding = 'base64'",
        "prefix-sha256-hex" => "scheme = 'digest'",
        "url-hmac-hex" => "template = '{url}'",
        "url+body-hmac-sha1-b64" => "hash = 'sha1'\nencoding = 'base64'\ntemplate = '{url}{body}'",
        "static-header" => "scheme = 'token'",
        _ => return None,
    })
}

fn header(vendor: &str) -> Option<Texts> {
    let names: &[&str] = match vendor {
        "appwrite" => &["X-Appwrite-Webhook-Signature"],
        "authsignal" => &["X-Signature-V2"],
        "descope" => &["x-descope-webhook-s256"],
        "keycloak-phasetwo" => &["X-Keycloak-Signature"],
        "loginradius" => &["signature"],
        "logto" => &["logto-signature-sha-256"],
        "okta" => &["Authorization"],
        "ory-polis / boxyhq-jackson" => &["Ory-Signature", "BoxyHQ-Signature"],
        "persona" => &["Persona-Signature"],
        "sendauth" => &["x-sendauth-signature"],
        "shopify" => &["X-Shopify-Hmac-Sha256"],
        "slack" => &["X-Slack-Signature"],
        "stripe" => &["Stripe-Signature"],
        "zenlogin" => &["X-SIGNATURE"],
        "zitadel" => &["ZITADEL-Signature"],
        _ => return None,
    };
    Some(names.iter().copied().collect())
}

/// Whether it verifies: none if its scheme is out of scope, an error of none if its secret is refused beforehand.
fn run(vector: &Vector) -> Option<Result<(), Option<Mismatch>>> {
    let default = settings("scheme = 'hmac'");
    let mut settings = settings(scheme_settings(&vector.scheme)?).over(&default);
    settings.header = settings.header.or_else(|| header(&vector.vendor));
    let body = match (&vector.body, &vector.body_base64) {
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(encoded)) => base64(encoded.as_bytes()).unwrap(),
        _ => panic!("one body"),
    };
    let lines: Vec<_> = vector.headers.iter().collect();
    let Ok(verifier) = settings.compile(&secrets(&[&vector.secret]), vector.url.as_deref()) else {
        return Some(Err(None));
    };
    let request =
        Request { headers: &headers(&lines), method: &Method::POST, query: None, body: &body.into() };
    let now = Timestamp::from_second(vector.now.unwrap_or(NOW)).unwrap();
    Some(verifier.verify(&request, now).map(|_| ()).map_err(Some))
}

/// Runs a file: how many verified, how many were refused, and the schemes that are out of scope.
fn run_file(json: &str) -> (usize, usize, Vec<String>) {
    let vectors: Vec<Vector> = serde_json::from_str(json).unwrap();
    let (mut verified, mut refused, mut out_of_scope) = (0, 0, Vec::new());
    for vector in &vectors {
        let name = format!("{} ({}): {}", vector.vendor, vector.source, vector.note);
        let Some(result) = run(vector) else {
            out_of_scope.push(vector.scheme.clone());
            continue;
        };
        // The vendor takes it for valid; that it is refused here is what the digest scheme is for.
        let forged = vector.source.starts_with("length-extension forgery");
        assert_eq!(result.is_ok(), vector.valid && !forged, "{name}: {result:?}");
        if result.is_ok() { verified += 1 } else { refused += 1 }
    }
    assert_eq!(verified + refused + out_of_scope.len(), vectors.len());
    (verified, refused, out_of_scope)
}

#[test]
fn published_vectors() {
    assert_eq!(run_file(PUBLISHED), (10, 10, vec!["standard-webhooks-v1a".to_owned()]));
}

#[test]
fn derived_vectors() {
    let out_of_scope = ["jwt-body-sha256", "detached-jws-eddsa"].map(str::to_owned);
    assert_eq!(run_file(DERIVED), (17, 3, out_of_scope.into()));
}

/// A public key is no HMAC key: whoever has it could sign `v1`.
#[test]
fn asymmetric_signatures_are_refused() {
    let vectors: Vec<Vector> = serde_json::from_str(PUBLISHED).unwrap();
    let mut vector = vectors.into_iter().find(|vector| vector.scheme == "standard-webhooks-v1a").unwrap();
    vector.scheme = "standard-webhooks-v1".to_owned();
    assert_eq!(run(&vector), Some(Err(None)), "whpk_");
    vector.secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
    assert_eq!(run(&vector), Some(Err(Some(Mismatch::Malformed))), "v1a only");
}
