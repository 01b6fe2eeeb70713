//! What is settled, and contents for want of room, go in time; what is needed never does.

use super::*;

#[test]
fn what_is_settled_late_is_forgotten_too() {
    let mut lab = Lab::new();
    let ways: Vec<Way> = ["app", "other"]
        .map(|upstream| Way { upstream: upstream.into(), format: Format::Raw, ordered: false })
        .into();
    for number in 0..3 {
        let record = Record { ways: ways.clone(), ..lab.record(number, 10) };
        stored(lab.write(Write::Append(Box::new(record)))).unwrap();
    }
    lab.deliver();
    lab.wait(100);
    let prune = |lab: &mut Lab| {
        forgotten(&lab.write(Write::Prune { before: lab.now - SignedDuration::from_secs(50), max: 1 }))
    };
    // One at a time, past what is still open.
    assert_eq!((0..12).map(|_| prune(&mut lab)).sum::<usize>(), 3);
    let discard = Filter { upstream: Some("other".into()), ..Filter::default() };
    lab.write(Write::Act { action: Action::Discard, filter: discard, after: 0, max: 10 });
    assert_eq!((0..12).map(|_| prune(&mut lab)).sum::<usize>(), 0, "it has not been settled for long");
    lab.wait(100);
    assert_eq!((0..12).map(|_| prune(&mut lab)).sum::<usize>(), 3);
    assert_eq!(lab.count(&Filter::default()), 0);
}

#[test]
fn what_is_settled_goes_after_its_time_and_the_file_stays_small() {
    let mut lab = Lab::new();
    let mut largest_early = 0;
    // A day of steady load, of which an hour is kept.
    for minute in 0..300_u32 {
        let batch: Vec<Write> =
            (0..20).map(|at| Write::Append(Box::new(lab.record(minute * 20 + at, 1500)))).collect();
        lab.engine.write(lab.now, &batch).unwrap();
        lab.deliver();
        let before = lab.now - SignedDuration::from_secs(3600);
        lab.write(Write::Prune { before, max: 60 });
        lab.engine.tidy().unwrap();
        lab.wait(60);
        if minute == 100 {
            largest_early = std::fs::metadata(lab._dir.path().join("inbox.db")).unwrap().len();
        }
    }
    let last = std::fs::metadata(lab._dir.path().join("inbox.db")).unwrap().len();
    assert!(last < largest_early * 5 / 4, "{largest_early} bytes after 100 minutes, {last} after 300");
    let kept = lab.count(&Filter::default());
    assert!((1200..=1240).contains(&kept), "{kept} of the last hour's 1200");
    let left: i64 = lab.value("SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM contents)");
    assert_eq!(usize::try_from(left).unwrap(), 2 * kept, "nothing is left of the others");
}

#[test]
fn what_is_not_settled_never_goes() {
    let mut lab = Lab::new();
    lab.append(1, 10).unwrap();
    lab.append(2, 10).unwrap();
    let key = lab.due()[1].key;
    let attempt = Attempt { at: lab.now, status: Some(410), error: None, took: Duration::ZERO };
    lab.write(Write::Ended { key, attempt, fate: Fate::Dead, urgent: false });
    lab.wait(1_000_000_000);
    assert_eq!(forgotten(&lab.write(Write::Prune { before: lab.now, max: 100 })), 0);
    assert_eq!(forgotten(&lab.write(Write::Strip { max: 100 })), 0);
    assert_eq!(lab.count(&Filter::default()), 2);
}

#[test]
fn contents_go_from_behind_those_that_stay() {
    let mut lab = Lab::new();
    let other = vec![Way { upstream: "other".into(), format: Format::Raw, ordered: false }];
    for number in 0..100 {
        let record = lab.record(number, 10);
        let record = if number < 90 { Record { ways: other.clone(), ..record } } else { record };
        stored(lab.write(Write::Append(Box::new(record)))).unwrap();
    }
    lab.deliver();
    let strip = |lab: &mut Lab| forgotten(&lab.write(Write::Strip { max: 3 }));
    assert_eq!((0..20).map(|_| strip(&mut lab)).sum::<usize>(), 10);
}

#[test]
fn for_want_of_room_contents_go_and_ids_stay() {
    let mut lab = Lab::new();
    for number in 0..50 {
        lab.append(number, 20_000).unwrap();
    }
    lab.deliver();
    lab.append(99, 20_000).unwrap();
    let before = lab.bytes();
    assert_eq!(forgotten(&lab.write(Write::Strip { max: 30 })), 30);
    assert_eq!(forgotten(&lab.write(Write::Strip { max: 30 })), 20);
    assert_eq!(forgotten(&lab.write(Write::Strip { max: 30 })), 0);
    assert!(lab.bytes() < before / 10, "{} of {before}", lab.bytes());
    assert_eq!(lab.append(0, 10), Err(Written::Known));
    assert_eq!(lab.due().len(), 1, "what is to be delivered is there");
    // What is gone cannot be replayed.
    let filter = Filter { id: Some(id(0)), ..Filter::default() };
    let replay = Write::Act { action: Action::Replay, filter, after: 0, max: 10 };
    assert_eq!(lab.write(replay), Written::Acted { changed: 0, last: None });
    lab.file.set_bytes_max(1);
    assert_eq!(lab.append(100, 10), Err(Written::NoRoom));
    assert_eq!(lab.append(1, 10), Err(Written::Known), "an acknowledged event stays so");
}

#[tokio::test]
async fn under_steady_load_settled_events_are_forgotten_too() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("inbox.db").display()).parse().unwrap();
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let keep = Duration::from_secs(3600);
    let inbox = Inbox::open(&Settings::default(), &url, keep, &clock, Counter::default()).unwrap();
    let hatch = inbox.hatch("app");
    let lab = Lab::new();
    for number in 0..200 {
        // Without a pause in which the writer had nothing to do.
        let record = Record { received_at: clock.now(), ..lab.record(number, 100) };
        assert_eq!(inbox.append(record).await, Ok(Appended::Stored));
        let due = hatch.take().due.pop_front().unwrap();
        let attempt = Attempt { at: clock.now(), status: Some(200), error: None, took: Duration::ZERO };
        inbox.ended(due.key, attempt, Fate::Delivered, true).await.unwrap();
        clock.advance(Duration::from_secs(60));
    }
    let kept = inbox.list(Filter::default(), None, 1000).await.unwrap().len();
    assert!((60..=62).contains(&kept), "{kept} of the last hour's 60");
    inbox.close();
}
