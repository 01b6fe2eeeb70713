//! `hookwarden events`: what is in the inbox of a running gateway, through its admin API.

use std::{
    env,
    io::{self, BufRead, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::{ArgGroup, Args, Subcommand};
use figment::value::Dict;
use http::{HeaderValue, Method, Request, header::AUTHORIZATION};
use serde_json::{Value, json};

use super::{Failure, health::reachable, print, print_json, say, table};
use crate::{
    admin::encoded,
    config::{self, secrets, secrets::SecretFields},
    upstream::{Roots, Target, once},
};

/// Longest wait for an answer: a bulk action goes through all that is meant.
const PATIENCE: Duration = Duration::from_secs(600);

/// List, show, replay or discard the events in a gateway's inbox
///
/// Talks to the admin API of a running gateway.
#[derive(Args, Debug)]
pub(super) struct Events {
    #[command(subcommand)]
    what: What,
    /// The gateway's admin listener [default: that of --config, else 127.0.0.1:9600]
    #[arg(
        long,
        value_name = "ADDR",
        global = true,
        env = "HOOKWARDEN_ADMIN__LISTEN",
        hide_env_values = true
    )]
    admin: Option<SocketAddr>,
    /// The gateway's configuration, to learn `admin.listen` and its token
    #[arg(long, value_name = "FILE", global = true, env = "HOOKWARDEN_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Variable with the token of the admin API [default: what the configuration says]
    #[arg(long, value_name = "NAME", global = true)]
    token_env: Option<String>,
    /// Print what the API answers
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The newest events that match, the newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Begin before this time, or where the `next` of another list says
        #[arg(long, value_name = "TIME|NEXT")]
        before: Option<String>,
        /// How many
        #[arg(long, value_name = "N", default_value = "50")]
        limit: u16,
    },
    /// One event, with all its attempts
    Show {
        /// hw1_…
        id: String,
    },
    /// Deliver again: settled events as replays (`hwreplay`), waiting ones at once
    Replay(Change),
    /// Give up: neither waiting events nor dead letters are delivered any more
    Discard(Change),
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("which").args(["id", "status"]).required(true)))]
struct Change {
    /// One event: hw1_…
    #[arg(conflicts_with_all = ["source", "type", "subject", "partitionkey", "status", "since", "until"])]
    id: Option<String>,
    /// Instead of one: all that match
    #[command(flatten)]
    filter: Filter,
    /// Do not ask before changing all that match
    #[arg(long, short)]
    yes: bool,
}

#[derive(Args, Debug)]
struct Filter {
    /// ready, retrying, delivered, dead or discarded
    #[arg(long)]
    status: Option<String>,
    /// Name of a source
    #[arg(long)]
    source: Option<String>,
    /// Short type, or a prefix such as `login.*`
    #[arg(long)]
    r#type: Option<String>,
    /// CloudEvents subject
    #[arg(long)]
    subject: Option<String>,
    /// CloudEvents partition key
    #[arg(long)]
    partitionkey: Option<String>,
    /// Name of an upstream
    #[arg(long)]
    upstream: Option<String>,
    /// Received at this time or later, such as 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// The API and how to get in.
struct Api {
    base: String,
    token: Option<HeaderValue>,
    roots: Roots,
}

impl Events {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let api = self.api()?;
        match &self.what {
            What::List { filter, before, limit } => {
                let mut query = filter.query();
                query.extend(before.iter().map(|before| ("before", before.clone())));
                query.push(("limit", limit.to_string()));
                let answer = api.call(Method::GET, "", &query).await?;
                self.show(&answer, lines)?;
                if let (Some(next), false) = (answer["next"].as_i64(), self.json) {
                    say(&format!("more: --before {next}\n"));
                }
                Ok(())
            }
            What::Show { id } => {
                let answer = api.call(Method::GET, &format!("/{}", encoded(id)), &[]).await?;
                self.show(&answer, one)
            }
            What::Replay(change) => self.change(&api, "replay", change).await,
            What::Discard(change) => self.change(&api, "discard", change).await,
        }
    }

    async fn change(&self, api: &Api, action: &str, change: &Change) -> Result<(), Failure> {
        let query = change.filter.query();
        let path = format!("/{action}");
        let all = || api.call(Method::POST, &path, &query);
        let answer = match &change.id {
            Some(id) => api.call(Method::POST, &format!("/{}/{action}", encoded(id)), &query).await?,
            None if change.yes => all().await?,
            None => match counted(api, action, &query).await? {
                0 => json!({ "changed": 0 }),
                count if agreed(action, count)? => all().await?,
                _ => return Err(Failure::Said(1)),
            },
        };
        self.show(&answer, |answer| {
            format!("{action}: {}\n", deliveries(answer["changed"].as_u64().unwrap_or(0)))
        })
    }

    fn show(&self, answer: &Value, text: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        if self.json {
            print_json(answer)?
        } else {
            print(&text(answer))?
        }
        Ok(())
    }

    fn api(&self) -> Result<Api, Failure> {
        let loaded = match (&self.config, self.admin) {
            (None, Some(_)) => None,
            (config, _) => {
                Some(config::load(config.as_deref(), env::vars_os(), &Dict::new()).map_err(Failure::Config)?)
            }
        };
        let admin = loaded.as_ref().map(|loaded| &loaded.settings.admin);
        let listen = self.admin.or_else(|| admin.map(|admin| admin.listen)).context("--admin")?;
        let token = match &self.token_env {
            Some(name) => {
                Some(env::var(name).with_context(|| format!("--token-env: {name} is not set"))?.into_bytes())
            }
            None => match &loaded {
                Some(loaded) => {
                    let fields = SecretFields::from(&loaded.settings.admin);
                    let read = secrets::read(&fields, &["admin"], &|name| env::var_os(name));
                    let (tokens, _) = read.map_err(|problems| Failure::Config(loaded.report(problems)))?;
                    tokens.first().map(|token| token.expose().to_vec())
                }
                None => None,
            },
        };
        let token = token.map(|token| HeaderValue::from_bytes(&[b"Bearer ", &token[..]].concat()));
        let token = token.transpose().context("the token has bytes that no header may have")?;
        let base = format!("http://{}/api/v1/events", reachable(listen));
        Ok(Api { base, token, roots: Roots::new(None).context("TLS")? })
    }
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let Self { status, source, r#type, subject, partitionkey, upstream, since, until } = self;
        let all = [
            ("status", status),
            ("source", source),
            ("type", r#type),
            ("subject", subject),
            ("partitionkey", partitionkey),
            ("upstream", upstream),
            ("since", since),
            ("until", until),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

impl Api {
    async fn call(&self, method: Method, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        let target: Target =
            format!("{}{path}{mark}{}", self.base, pairs.join("&")).parse().context("--admin")?;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let answer = once(&target, &self.roots, request, PATIENCE).await;
        let answer = answer.with_context(|| format!("no answer from {}", self.base))?;
        let body: Value =
            serde_json::from_str(str::from_utf8(answer.body()).unwrap_or_default()).unwrap_or_default();
        if answer.status().is_success() {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("no reason given");
        Err(anyhow!("{} {}: {detail}", answer.status().as_u16(), body["code"].as_str().unwrap_or_default())
            .into())
    }
}

/// How many are meant.
async fn counted(api: &Api, action: &str, query: &[(&'static str, String)]) -> Result<u64, Failure> {
    let mut query = query.to_vec();
    query.push(("action", action.to_owned()));
    let count = api.call(Method::GET, "/count", &query).await?;
    Ok(count["count"].as_u64().unwrap_or(0))
}

/// Says how many are meant, and asks.
fn agreed(action: &str, count: u64) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(anyhow!("this would {action} {}: say --yes to do it", deliveries(count)).into());
    }
    say(&format!("{action} {}? [y/N] ", deliveries(count)));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn deliveries(count: u64) -> String {
    if count == 1 { "1 delivery".to_owned() } else { format!("{count} deliveries") }
}

fn lines(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let heading = ["ID", "RECEIVED", "SOURCE", "TYPE", "UPSTREAM", "STATUS", "TRIES", "LAST"]
        .map(str::to_owned)
        .to_vec();
    let mut rows = vec![heading];
    for event in answer["events"].as_array().into_iter().flatten() {
        for delivery in event["deliveries"].as_array().into_iter().flatten() {
            let attempts = delivery["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
            rows.push(vec![
                text(&event["id"]),
                text(&event["received_at"]),
                text(&event["source"]),
                text(&event["type"]),
                text(&delivery["upstream"]),
                text(&delivery["status"]),
                attempts.len().to_string(),
                attempts.last().map(outcome).unwrap_or_default(),
            ]);
        }
    }
    table(&rows)
}

/// What came of an attempt.
fn outcome(attempt: &Value) -> String {
    match (attempt["error"].as_str(), attempt["status"].as_u64()) {
        (Some(error), _) => error.to_owned(),
        (None, Some(status)) => format!("status code: {status}"),
        (None, None) => String::new(),
    }
}

fn one(event: &Value) -> String {
    let mut text = String::new();
    for name in ["id", "source", "type", "subject", "partitionkey", "received_at", "status"] {
        text.push_str(&format!("{name:<13} {}\n", event[name].as_str().unwrap_or("-")));
    }
    for delivery in event["deliveries"].as_array().into_iter().flatten() {
        let word = |name: &str| delivery[name].as_str().unwrap_or("-").to_owned();
        let replay = if delivery["replay"] == true { ", a replay" } else { "" };
        text.push_str(&format!("\nto {}: {}{replay}\n", word("upstream"), word("status")));
        if delivery["due_at"].is_string() {
            text.push_str(&format!("  next attempt at {}\n", word("due_at")));
        }
        for attempt in delivery["attempts"].as_array().into_iter().flatten() {
            let at = attempt["at"].as_str().unwrap_or_default();
            text.push_str(&format!("  {at}  {} ({} ms)\n", outcome(attempt), attempt["duration_ms"]));
        }
    }
    text
}
