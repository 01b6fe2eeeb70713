//! 200 follows the sync, and a disk that fails loses nothing: a library between the gateway and the system (`disk.c`) tells
//! what is written when, and fails on demand.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::Command,
    sync::{Arc, LazyLock},
    thread,
};

use super::*;

/// The library, built once a run.
static LIBRARY: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let source = root().join("tests/it/inbox/disk.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
        .arg(dir.path().join("disk.so"))
        .arg(source)
        .arg("-ldl")
        .status();
    assert!(built.expect("a C compiler, as the build needs one").success());
    dir
});

/// A gateway whose disk does as it is told.
struct Lab {
    home: Home,
    sink: Sink,
    config: String,
}

impl Lab {
    fn new(app: &str) -> Self {
        let (home, sink) = (Home::new(), Sink::start());
        let config = home.config(sink.address, app);
        Self { home, sink, config }
    }

    fn start(&self) -> Gateway {
        self.disk('0');
        let library = LIBRARY.path().join("disk.so");
        Gateway::start_with(&self.config, |command| {
            command
                .env("LD_PRELOAD", library)
                .env("DISK_MODE", self.home.path("mode"))
                .env("DISK_TRACE", self.home.path("trace"));
        })
    }

    /// How the disk behaves from now on.
    fn disk(&self, mode: char) {
        replace(&self.home.path("mode"), mode.to_string());
    }

    fn trace(&self) -> Vec<String> {
        fs::read_to_string(self.home.path("trace")).expect("a trace").lines().map(str::to_owned).collect()
    }
}

/// Each answered event was written, and after that a sync began and ended, before the answer was.
fn is_durable(trace: &[String], answered: usize) -> Result<(), String> {
    let mut written: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    let (mut synced, mut running, mut answers) = (0, Vec::new(), 0);
    for (at, line) in trace.iter().enumerate() {
        match line.trim_end().split_once(' ').unwrap_or_else(|| (line.trim_end(), "")) {
            ("write", id) => {
                written.entry(id).or_insert(at);
            }
            ("sync", _) => running.push(at),
            // Of syncs that overlap, any may be the one that ended: the earliest claims least.
            ("synced", _) => synced = synced.max(running.remove(0)),
            ("answer", id) => {
                answers += 1;
                let at = written.get(id).ok_or_else(|| format!("{id} was answered and never written"))?;
                if synced < *at {
                    return Err(format!("{id} was answered before it was synced"));
                }
            }
            other => return Err(format!("{other:?} in the trace")),
        }
    }
    if answers == answered {
        Ok(())
    } else {
        Err(format!("{answers} answers in the trace, {answered} were given"))
    }
}

#[test]
fn every_200_follows_a_sync_that_began_after_the_event_was_written() {
    let lab = Lab::new("");
    let gateway = Arc::new(lab.start());
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let gateway = Arc::clone(&gateway);
            thread::spawn(move || {
                (0..20).for_each(|number| drop(taken(&gateway, &format!("{sender}-{number}"))))
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().expect("all are taken"));
    let trace = lab.trace();
    is_durable(&trace, 160).unwrap();
    // The check is one: without its syncs the same trace does not pass.
    let unsynced: Vec<String> = trace.into_iter().filter(|line| !line.starts_with("sync")).collect();
    assert!(is_durable(&unsynced, 160).is_err());
}

/// While the disk fails: 503, not ready, counted and logged; afterwards all is well by itself, and nothing is lost.
fn fails_and_recovers(mode: char, said: &str) {
    let lab = Lab::new("");
    let mut gateway = lab.start();
    let before = taken(&gateway, "before");
    lab.sink.wait_for(1);
    eventually("it is settled", || status(&event(&gateway, &before)) == "delivered");
    lab.disk(mode);
    let answer = send(&gateway, "sendauth", &approval("during"));
    assert!(answer.header("retry-after").is_some());
    answer.refused(503, "inbox_unavailable");
    eventually("it is not ready", || gateway.admin_get("/readyz").status == 503);
    let ready = gateway.admin_get("/readyz").text();
    assert!(ready.contains("inbox") && ready.contains(said), "{ready}");
    assert!(gateway.metric("hookwarden_store_errors_total{backend=\"sqlite\"}") >= 1.0);
    gateway.logged(|line| {
        line["level"] == "ERROR" && line["message"].as_str().is_some_and(|text| text.contains("inbox"))
    });
    for number in 0..5 {
        send(&gateway, "sendauth", &approval(&format!("during-{number}"))).refused(503, "inbox_unavailable");
    }
    assert_eq!(gateway.admin_get("/livez").status, 200);
    assert_eq!(lab.sink.count(), 1, "nothing goes to the app that was not acknowledged");
    lab.disk('0');
    eventually("it is ready again", || gateway.admin_get("/readyz").status == 200);
    // The vendor's retry.
    let again = send(&gateway, "sendauth", &approval("during"));
    let during = again.id();
    lab.sink.wait_for(2);
    let after = taken(&gateway, "after");
    lab.sink.wait_for(3);
    eventually("all is settled", || status(&event(&gateway, &after)) == "delivered");
    // Only what was acknowledged, and that once.
    gateway.signal("KILL");
    gateway.wait();
    assert!(lab.home.is_sound());
    let gateway = lab.start();
    for id in [&before, &during, &after] {
        assert_eq!(status(&event(&gateway, id)), "delivered");
    }
    assert_eq!(lab.sink.count(), 3);
}

#[test]
fn a_sync_that_fails_is_never_followed_by_a_200_on_a_mere_retry() {
    fails_and_recovers('s', "disk I/O error");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    fails_and_recovers('f', "no room");
}

#[test]
fn a_read_only_disk_refuses_and_recovers() {
    fails_and_recovers('r', "the disk fails");
}

#[test]
fn a_disk_that_hangs_acknowledges_nothing_meanwhile() {
    let lab = Lab::new("");
    let gateway = Arc::new(lab.start());
    taken(&gateway, "before");
    lab.sink.wait_for(1);
    lab.disk('w');
    let waiting: Vec<_> = (0..4)
        .map(|number| {
            let gateway = Arc::clone(&gateway);
            thread::spawn(move || taken(&gateway, &format!("during-{number}")))
        })
        .collect();
    eventually("they are being worked on", || gateway.metric("hookwarden_http_requests_in_flight") == 4.0);
    let answers = |lab: &Lab| lab.trace().iter().filter(|line| line.starts_with("answer")).count();
    assert_eq!(answers(&lab), 1);
    assert!(waiting.iter().all(|one| !one.is_finished()));
    lab.disk('0');
    waiting.into_iter().for_each(|one| drop(one.join().expect("it is taken")));
    lab.sink.wait_for(5);
    is_durable(&lab.trace(), 5).unwrap();
}

#[test]
fn what_was_delivered_while_the_disk_failed_is_not_delivered_again() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let mut lab = Lab::new("");
    lab.sink = Sink::behaving(move |_, _| Behaviour::Wait(Arc::clone(&held)));
    lab.config = lab.home.config(lab.sink.address, "");
    let gateway = lab.start();
    let ids: Vec<String> = (0..20).map(|number| taken(&gateway, &number.to_string())).collect();
    lab.sink.wait_for(20);
    lab.disk('f');
    gate.open();
    send(&gateway, "sendauth", &approval("during")).refused(503, "inbox_unavailable");
    eventually("it is not ready", || gateway.admin_get("/readyz").status == 503);
    lab.disk('0');
    for id in &ids {
        eventually("it is settled", || status(&event(&gateway, id)) == "delivered");
    }
    assert_eq!(lab.sink.count(), 20);
}

/// A limit of the system's own, with no library in between: `ulimit -f`.
#[test]
fn a_file_that_may_not_grow_is_a_full_disk_and_not_the_end() {
    let (home, sink) = (Home::new(), Sink::start());
    let config = home.path("hookwarden.toml");
    fs::write(&config, home.config(sink.address, "")).expect("written");
    let gateway = Gateway::start_at(&config, |command| {
        let program = command.get_program().to_owned();
        // Units of 512 bytes in sh.
        let script = "ulimit -f 2048; exec \"$@\"";
        let arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let mut limited = Command::new("sh");
        limited.args(["-c", script, "sh"]).arg(program).args(arguments).env_clear().envs(environment);
        limited.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        limited.process_group(0);
        *command = limited;
    });
    let mut acknowledged = 0;
    let refused = (0..5000).find_map(|number| {
        let answer = send(&gateway, "sendauth", &approval(&format!("{number}-{}", "x".repeat(200))));
        if answer.status == 200 {
            acknowledged += 1;
            return None;
        }
        Some(answer)
    });
    refused.expect("a mebibyte is full some time").refused(503, "inbox_unavailable");
    assert!(acknowledged > 10, "{acknowledged}");
    sink.wait_for(acknowledged);
    assert_eq!(gateway.admin_get("/livez").status, 200);
    assert_eq!(sink.count(), acknowledged);
}

/// The operator's own bound.
#[test]
fn a_full_inbox_refuses_and_loses_nothing() {
    let home = Home::new();
    let address = Later::new().refuse();
    let text =
        home.config(address, SOON).replacen("inbox.url = ", "inbox.bytes_max = \"8MiB\"\ninbox.url = ", 1);
    let gateway = Gateway::start(&text);
    let big = "x".repeat(100_000);
    let mut ids = Vec::new();
    let refused = (0..500).find_map(|number| {
        let answer = send(&gateway, "sendauth", &approval(&format!("{number}-{big}")));
        if answer.status == 200 {
            ids.push(answer.id());
            return None;
        }
        Some(answer)
    });
    refused.expect("it is full some time").refused(503, "inbox_unavailable");
    assert!(ids.len() > 20, "{}", ids.len());
    assert_eq!(gateway.admin_get("/readyz").status, 503);
    assert!(gateway.metric("hookwarden_inbox_bytes") >= 8_388_608.0);
    // The app comes back: there is room again, for what is settled need not be kept.
    let sink = Sink::at(TcpListener::bind(address).expect("the port"), |_, _| Behaviour::Status(200, ""));
    admin_post(&gateway, "/api/v1/events/replay?status=retrying");
    admin_post(&gateway, "/api/v1/events/replay?status=dead");
    sink.wait_for(ids.len());
    eventually("it is ready again", || gateway.admin_get("/readyz").status == 200);
    let after = taken(&gateway, &format!("after-{big}"));
    sink.wait_for(ids.len() + 1);
    // Stripped of what it would be sent as, an event is still known.
    assert!(send(&gateway, "sendauth", &approval(&format!("0-{big}"))).is_duplicate());
    eventually("all is settled", || status(&event(&gateway, &after)) == "delivered");
}
