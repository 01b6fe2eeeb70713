//! `hookwarden demo`: everything at once on this machine, and a table of what happened.

use bytes::Bytes;
use clap::Args;

use super::{
    Failure,
    local::{Local, SecretAt, signing_secret, variable, vendor_secret},
    origin::Origin,
    print,
    receiver::{Received, Receiver},
    sample::Sample,
    say,
    send::{Answer, Sender},
    table,
};
use crate::{
    app::{self, Running},
    clock::Clock,
    secret::Secret,
    upstream::Roots,
    vendor::{self, format::VendorFile},
};

/// What the gateway is called by vendors that sign the URL.
const PUBLIC_URL: &str = "https://hooks.example.com";

/// See it work: no configuration, no network
///
/// Starts an app that verifies and prints what it gets, and the gateway with all built-in vendors and generated secrets.
/// Sends a signed sample of each vendor, a duplicate, a forgery, and a body that is not one JSON document. Shows what
/// became of them and stays up.
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Do not stay up; exit with 0 only if everything went as it should
    #[arg(long)]
    once: bool,
}

/// One vendor, ready to send.
struct Player {
    name: &'static str,
    file: VendorFile,
    sender: Sender,
}

/// What an answer should be.
enum Expected {
    /// Taken, and forwarded as this type.
    Event(String),
    /// Taken, and not forwarded again.
    Duplicate,
    /// Refused with this status and code, and not forwarded.
    Refusal(u16, &'static str),
}

/// One line of the table.
struct Outcome {
    cells: Vec<String>,
    ok: bool,
}

impl Demo {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let app_secret = signing_secret()?;
        let mut receiver = Receiver::start(&app_secret).await?;
        let secrets: Vec<(&'static str, String)> = vendor::BUILTIN
            .iter()
            .map(|(name, _)| Ok((*name, vendor_secret()?)))
            .collect::<anyhow::Result<_>>()?;
        let local = Local {
            listen: ([127, 0, 0, 1], 0).into(),
            public_url: PUBLIC_URL.to_owned(),
            log_level: "warn",
            app_url: receiver.url.clone(),
            app_secret: SecretAt::Here(app_secret),
            vendors: secrets.iter().map(|(name, secret)| (*name, SecretAt::Here(secret.clone()))).collect(),
        };
        let load = local.load();
        let _logging = app::logging::init(&load().map_err(Failure::Config)?.settings.log)?;
        let running = app::start(load).await?;

        let outcomes = play(&running, &mut receiver, &secrets).await?;
        let ok = outcomes.iter().all(|outcome| outcome.ok);
        let heading = ["VENDOR", "SENT", "ANSWER", "THE APP GOT", ""].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> =
            [heading].into_iter().chain(outcomes.into_iter().map(|outcome| outcome.cells)).collect();
        print(&format!("\n{}", table(&rows)))?;
        if self.once {
            running.stop().await;
            return if ok { Ok(()) } else { Err(Failure::Said(1)) };
        }
        say(&hints(&running, &secrets));
        tokio::select! {
            () = running.until_signal() => Ok(()),
            failed = follow(receiver) => Err(failed),
        }
    }
}

async fn play(
    running: &Running,
    receiver: &mut Receiver,
    secrets: &[(&'static str, String)],
) -> anyhow::Result<Vec<Outcome>> {
    let clock = Clock::system();
    let roots = Roots::new(None)?;
    let players: Vec<Player> =
        secrets.iter().filter_map(|(name, secret)| Player::new(name, secret, running, &roots)).collect();
    let mut outcomes = Vec::new();
    let mut last = None;
    for player in &players {
        let mut sample = Sample::of(&player.file, None, clock.now())?;
        let body = sample.next()?;
        let answer = player.sender.send(&body, clock.now()).await?;
        let expected = Expected::Event(player.event_type(&sample.event));
        outcomes.push(player.judge(&sample.event, &answer, receiver.try_next().as_ref(), &expected)?);
        last.get_or_insert((player, body));
    }
    let Some((player, body)) = last else { return Ok(outcomes) };

    let answer = player.sender.send(&body, clock.now()).await?;
    outcomes.push(player.judge(
        "the same again",
        &answer,
        receiver.try_next().as_ref(),
        &Expected::Duplicate,
    )?);

    let body = Sample::of(&player.file, None, clock.now())?.next()?;
    let answer = player.sender.forger().send(&body, clock.now()).await?;
    let expected = Expected::Refusal(401, "unverified");
    outcomes.push(player.judge("a forgery", &answer, receiver.try_next().as_ref(), &expected)?);

    // An HMAC covers any bytes: what it covers need not be one document.
    if let Some(player) = players.iter().find(|player| player.name == "loginradius") {
        let twice = Bytes::from([&body[..], &body[..]].concat());
        let answer = player.sender.send(&twice, clock.now()).await?;
        let expected = Expected::Refusal(400, "malformed_body");
        outcomes.push(player.judge(
            "two documents in one body",
            &answer,
            receiver.try_next().as_ref(),
            &expected,
        )?);
    }
    Ok(outcomes)
}

impl Player {
    fn new(name: &'static str, secret: &str, running: &Running, roots: &Roots) -> Option<Self> {
        let Origin { file, verify, .. } = Origin::vendor(name).ok()?;
        let sender = Sender {
            to: format!("http://{}/in/{name}", running.listen),
            url: format!("{PUBLIC_URL}/in/{name}"),
            verify,
            secret: Secret::new(None, secret.as_bytes().to_vec()),
            roots: roots.clone(),
        };
        Some(Self { name, file, sender })
    }

    /// What the vendor's file makes of an event.
    fn event_type(&self, event: &str) -> String {
        let mut rules = self.file.event.iter();
        let rule = rules.find(|rule| rule.names.iter().any(|name| name.eq_ignore_ascii_case(event)));
        rule.map_or("vendor.event", |rule| rule.event_type.as_str()).to_owned()
    }

    fn judge(
        &self,
        sent: &str,
        answer: &Answer,
        received: Option<&Received>,
        expected: &Expected,
    ) -> anyhow::Result<Outcome> {
        if let Some(received) = received {
            print(&received.line())?;
        }
        let ok = match (expected, received) {
            (Expected::Event(event_type), Some(received)) => {
                answer.status == 200
                    && !answer.duplicate
                    && received.verified
                    && received.source == self.name
                    && received.event_type() == event_type
                    && received.event["id"].as_str() == answer.id.as_deref()
            }
            (Expected::Duplicate, None) => answer.status == 200 && answer.duplicate,
            (Expected::Refusal(status, code), None) => {
                answer.status == *status && answer.code.as_deref() == Some(code)
            }
            _ => false,
        };
        let got = match received {
            Some(Received { verified: true, .. }) => "✓",
            Some(_) => "✗ not verified:",
            None => "nothing",
        };
        let got = format!("{got} {}", received.map_or("", Received::event_type));
        let ok_text = if ok { "ok" } else { "NOT AS EXPECTED" };
        let cells = [self.name, sent, &answer.text(), got.trim_end(), ok_text];
        Ok(Outcome { cells: cells.map(str::to_owned).to_vec(), ok })
    }
}

fn hints(running: &Running, secrets: &[(&str, String)]) -> String {
    let Running { listen, admin, .. } = running;
    let mut text = format!(
        "\nUp until Ctrl-C. Vendors post to http://{listen}/in/VENDOR; metrics: http://{admin}/metrics\n\nTry:\n"
    );
    for (name, secret) in secrets {
        let signs_url = vendor::builtin(name)
            .and_then(|file| file.verify.template)
            .is_some_and(|template| template.contains("{url}"));
        let url = if signs_url { format!(" --url {PUBLIC_URL}/in/{name}") } else { String::new() };
        text.push_str(&format!(
            "  {}={secret} hookwarden trigger {name} --to http://{listen}/in/{name}{url}\n",
            variable(name)
        ));
    }
    text
}

/// Prints what comes; ends only if it cannot.
async fn follow(mut receiver: Receiver) -> Failure {
    while let Some(received) = receiver.next().await {
        if let Err(error) = print(&received.line()) {
            return error.into();
        }
    }
    std::future::pending().await
}
