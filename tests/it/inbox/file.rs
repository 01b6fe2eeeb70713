//! The inbox's file: who may have it, what is refused, what is set aside, and what it says of itself.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

/// Starts a gateway that does not come up.
fn refused(home: &Home) -> Output {
    let config = home.path("hookwarden.toml");
    fs::write(&config, home.config(nobody(), "")).expect("written");
    output(hookwarden().arg("run").arg("--config").arg(config))
}

#[test]
fn a_second_process_is_kept_out() {
    let home = Home::new();
    let gateway = Gateway::start(&home.config(nobody(), LATE));
    let id = taken(&gateway, "a1");
    let second = refused(&home);
    assert_eq!(second.code, 69);
    let said = format!("the inbox `{}` is in use by another process", home.file().display());
    assert!(second.err.contains(&said), "{}", second.err);
    assert_eq!(status(&event(&gateway, &id)), "retrying");
    for name in ["inbox.db", "inbox.db-wal"] {
        let mode = fs::metadata(home.path(name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}: only its owner reads it");
    }
}

/// Puts something where the inbox should be.
type Make = fn(&Home);

#[test]
fn what_is_no_inbox_or_a_newer_one_is_refused() {
    let cases: [(&str, Make); 4] = [
        ("it is another program's database", |home| {
            home.open()
                .execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)")
                .expect("made");
        }),
        ("has schema version 99, and this hookwarden knows versions up to 1", |home| {
            home.open()
                .execute_batch(
                    "PRAGMA application_id = 0x686b7764; PRAGMA user_version = 99; CREATE TABLE a (b)",
                )
                .expect("made");
        }),
        ("the file is damaged", |home| fs::write(home.file(), vec![0x5A; 8192]).expect("written")),
        ("cannot open the inbox", |home| fs::create_dir(home.file()).expect("made")),
    ];
    for (said, make) in cases {
        let home = Home::new();
        make(&home);
        let before = fs::metadata(home.file()).expect("there").len();
        let refused = refused(&home);
        assert_eq!(refused.code, 69, "{said}: {}", refused.err);
        assert!(refused.err.contains(said) && refused.err.contains("inbox.url"), "{}", refused.err);
        assert_eq!(fs::metadata(home.file()).expect("there").len(), before, "untouched");
    }
}

#[test]
fn one_flipped_bit_costs_one_event_and_no_more() {
    const EVENTS: usize = 30;
    let home = Home::new();
    let mut gateway = Gateway::start(&home.config(Later::new().refuse(), "schedule = [\"1ms\"]"));
    let ids: Vec<String> =
        (0..EVENTS).map(|number| taken(&gateway, &format!("needle-{number:02}"))).collect();
    eventually("all are dead", || inbox_events(&gateway, "app", "dead") == EVENTS as f64);
    gateway.signal("TERM");
    gateway.wait();
    let whole = bytes_of(&home.file());
    for victim in [0, 7, EVENTS - 1] {
        let needle = format!("needle-{victim:02}");
        let mut bytes = whole.clone();
        // In its data, where it stands once more than in attributes and indexes.
        let place = memchr::memmem::rfind_iter(&bytes, format!("\"id\":\"{needle}\"").as_bytes())
            .next()
            .expect("there");
        bytes[place + 8] ^= 0x20;
        fs::write(home.file(), bytes).expect("written");
        let sink = Sink::start();
        let gateway = Gateway::start(&home.config(sink.address, ""));
        let answer = admin_post(&gateway, "/api/v1/events/replay?status=dead");
        assert_eq!(answer.json()["changed"], EVENTS);
        sink.wait_for(EVENTS - 1);
        eventually("one is set aside", || inbox_events(&gateway, "app", "dead") == 1.0);
        eventually("the others are settled", || {
            inbox_events(&gateway, "app", "ready") + inbox_events(&gateway, "app", "retrying") == 0.0
        });
        assert_eq!(gateway.metric("hookwarden_inbox_damaged_total"), 1.0);
        assert!(sink.arrived().iter().all(|one| one.id() != ids[victim]));
        let shown = event(&gateway, &ids[victim]);
        assert_eq!(attempts(&shown).last().map(String::as_str), Some("damaged on the disk"));
        assert_eq!(sink.count(), EVENTS - 1);
        drop(gateway);
        fs::remove_file(home.path("inbox.db-wal")).ok();
        fs::remove_file(home.path("inbox.db-shm")).ok();
    }
}

#[test]
fn check_says_what_kind_of_storage_it_is_and_what_is_wrong() {
    let home = Home::new();
    let check = |text: &str| {
        let config = home.path("hookwarden.toml");
        fs::write(&config, text).expect("written");
        output(hookwarden().arg("check").arg("--config").arg(config))
    };
    let with = |url: &str| Config { top: &format!("inbox.url = \"{url}\""), ..Config::to(nobody()) }.text();
    let memory = check(&with("sqlite:/dev/shm/hookwarden-inbox.db"));
    assert!(memory.code == 0 && memory.err.contains("is in memory (tmpfs)"), "{}", memory.err);
    assert!(!memory.err.contains("direct delivery"), "{}", memory.err);
    let good = check(&home.config(nobody(), ""));
    assert!(good.code == 0 && !good.err.contains("direct delivery"), "{}", good.err);
    assert!(!home.file().exists(), "check makes nothing");
    for (url, said) in [
        ("sqlite:", "expected `sqlite:` and the path of a file"),
        ("/var/lib/inbox.db", "expected `sqlite:` and the path of a file"),
        ("postgres://db/inbox", "PostgreSQL is not in this version"),
    ] {
        let refused = check(&with(url));
        assert!(
            refused.code == 78 && refused.err.contains(said) && refused.err.contains("inbox.url"),
            "{}",
            refused.err
        );
    }
    // Elsewhere it may exist; `run` cannot open the file, and says so.
    let nowhere = with("sqlite:/nowhere/at/all/inbox.db");
    let warned = check(&nowhere);
    assert!(
        warned.code == 0 && warned.err.contains("the folder of this file does not exist here"),
        "{}",
        warned.err
    );
    let ran = output(hookwarden().arg("run").arg("--config").arg(home.path("hookwarden.toml")));
    assert!(
        ran.code == 69 && ran.err.contains("cannot open the inbox `/nowhere/at/all/inbox.db`"),
        "{}",
        ran.err
    );
    let direct = Config { sendauth: "delivery = \"inbox\"", ..Config::to(nobody()) }.text();
    let refused = check(&direct);
    assert!(refused.code == 78 && refused.err.contains("there is no inbox"), "{}", refused.err);
    let direct = home.config(nobody(), "").replacen(
        "vendor = \"sendauth\"",
        "vendor = \"sendauth\"\ndelivery = \"direct\"",
        1,
    );
    let warned = check(&direct);
    assert!(warned.code == 0 && warned.err.contains("direct delivery, and SendAuth"), "{}", warned.err);
    let small = Config {
        top: "inbox = { url = \"sqlite:/tmp/x.db\", bytes_max = \"200KiB\" }",
        ..Config::to(nobody())
    }
    .text();
    assert_eq!(check(&small).code, 78);
}

#[test]
fn operators_read_the_file_with_sqlite_alone() {
    let sink = Sink::start();
    let home = Home::new();
    let mut gateway = Gateway::start(&home.config(sink.address, ""));
    let id = taken(&gateway, "a1");
    eventually("it is delivered", || status(&event(&gateway, &id)) == "delivered");
    let line = |home: &Home| {
        home.open()
            .query_row(
                "SELECT id, source, type, subject, upstream, status, attempts, last FROM inbox",
                (),
                |row| {
                    let texts: rusqlite::Result<Vec<String>> = (0..6).map(|at| row.get(at)).collect();
                    Ok((texts?, row.get::<_, i64>(6)?, row.get::<_, i64>(7)?))
                },
            )
            .expect("one line")
    };
    let expected =
        [&id, "sendauth", "approval.approved", "approval/a1", "app", "delivered"].map(str::to_owned);
    assert_eq!(line(&home), (expected.to_vec(), 1, 200), "while it runs");
    gateway.signal("TERM");
    gateway.wait();
    assert_eq!(line(&home), (expected.to_vec(), 1, 200), "afterwards");
    assert!(home.is_sound());
}
