//! Events are found by subject and partition key, whatever segment they are in.

use super::*;

/// One of seven users or none, in one of three partitions.
fn record(lab: &Lab, number: u32) -> Record {
    Record {
        subject: has_subject(number).then(|| format!("user/{}", number % 7)),
        partition_key: (number % 3).to_string(),
        ..lab.record(number, 0)
    }
}

fn has_subject(number: u32) -> bool {
    !number.is_multiple_of(5)
}

fn append(lab: &mut Lab, number: u32) {
    let record = record(lab, number);
    assert_eq!(stored(lab.write(Write::Append(Box::new(record)))), Ok(()));
}

/// What is found by each subject, each partition key, and both, is what is there, by the writer and by a reader.
fn check(lab: &mut Lab, there: &[u32]) {
    let mut reader = Sqlite::new(&lab.file, false).unwrap();
    let partition_keys = (0..4).map(Some).chain([None]);
    for (subject, key) in (0..8)
        .map(Some)
        .chain([None])
        .flat_map(|subject| partition_keys.clone().map(move |key| (subject, key)))
    {
        let filter = Filter {
            subject: subject.map(|subject| format!("user/{subject}")),
            partition_key: key.map(|key: u32| key.to_string()),
            event_type: Some("login".to_owned()),
            ..Filter::default()
        };
        let is_meant = |number: &&u32| {
            subject.is_none_or(|subject| has_subject(**number) && *number % 7 == subject)
                && key.is_none_or(|key| *number % 3 == key)
        };
        let expected = there.iter().filter(is_meant).count();
        assert_eq!(lab.count(&filter), expected, "{filter:?} of {there:?}");
        assert_eq!(reader.list(&filter, None, 1000).unwrap().len(), expected, "{filter:?} of {there:?}");
        assert_eq!(
            reader.count(&filter, Action::Replay).unwrap(),
            expected as u64,
            "{filter:?} of {there:?}"
        );
    }
}

#[test]
fn events_are_found_in_every_segment_and_behind_them() {
    let mut lab = Lab::new();
    for number in 0..60 {
        append(&mut lab, number);
        check(&mut lab, &(0..=number).collect::<Vec<_>>());
        if number % 9 == 0 {
            lab = lab.restart();
        }
    }
    // Event 60 alone is behind the last segment, which has 56 to 59.
    assert_eq!(lab.value::<i64>("SELECT count(*) FROM keys WHERE kind = 1"), 59);
}

#[test]
fn a_segment_goes_with_its_last_event_and_no_number_is_another_s() {
    let mut lab = Lab::new();
    for number in 0..20 {
        append(&mut lab, number);
    }
    // One of the last segment that is full fails and stays.
    let attempt = Attempt { at: lab.now, status: Some(410), error: None, took: Duration::ZERO };
    let key = lab.due()[15].key;
    lab.write(Write::Ended { key, attempt, fate: Fate::Dead, urgent: false });
    lab.deliver();
    lab.wait(10);
    let delivered = lab.now;
    lab.prune(delivered, 7);
    check(&mut lab, &[15]);
    assert_eq!(
        lab.value::<i64>("SELECT count(*) FROM keys WHERE kind = 1"),
        1,
        "of those that are gone, nothing"
    );

    let mut lab = lab.restart();
    let mut there = vec![15];
    for number in 20..40 {
        append(&mut lab, number);
        there.push(number);
        check(&mut lab, &there);
    }

    lab.write(Write::Act { action: Action::Discard, filter: Filter::default(), after: 0, max: 100 });
    lab.wait(10);
    let discarded = lab.now;
    lab.prune(discarded, 7);
    check(&mut lab, &[]);
    assert_eq!(lab.value::<i64>("SELECT count(*) FROM keys"), 0);
}

#[test]
fn what_has_a_key_is_read_and_changed_part_by_part() {
    const EVENTS: u32 = 200;
    let mut lab = Lab::new();
    let batch: Vec<Write> = (0..EVENTS).map(|number| Write::Append(Box::new(record(&lab, number)))).collect();
    lab.engine.write(lab.now, &batch).unwrap();
    // Many segments are behind, of which each transaction writes one.
    for number in EVENTS..EVENTS + 20 {
        append(&mut lab, number);
    }
    check(&mut lab, &(0..EVENTS + 20).collect::<Vec<_>>());

    let filter = Filter { partition_key: Some("1".to_owned()), ..Filter::default() };
    let (mut before, mut pages) = (None, Vec::new());
    loop {
        let page = lab.engine.list(&filter, before, 7).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.event);
        pages.extend(page.into_iter().map(|stored| stored.event));
    }
    let expected: Vec<i64> =
        (0..EVENTS + 20).rev().filter(|number| number % 3 == 1).map(|number| i64::from(number) + 1).collect();
    assert_eq!(pages, expected);

    assert_eq!(lab.discard(&filter, 7), expected.len() as u64);
    let discarded = Filter { status: Some(Status::Discarded), ..filter };
    assert_eq!(lab.count(&discarded), expected.len());
}

#[test]
fn what_cannot_be_indexed_is_stored_and_found() {
    let mut lab = Lab::new();
    let file = rusqlite::Connection::open(lab._dir.path().join("inbox.db")).unwrap();
    let fails = "CREATE TRIGGER fails BEFORE INSERT ON keys WHEN NEW.segment = 2 BEGIN SELECT RAISE(ABORT, 'test'); END";
    file.execute_batch(fails).unwrap();
    for number in 0..30 {
        append(&mut lab, number);
    }
    check(&mut lab, &(0..30).collect::<Vec<_>>());
    assert_eq!(lab.value::<i64>("SELECT max(segment) FROM keys"), 1);
    file.execute_batch("DROP TRIGGER fails").unwrap();
    lab.engine.reopen().unwrap();
    for number in 30..40 {
        append(&mut lab, number);
    }
    check(&mut lab, &(0..40).collect::<Vec<_>>());
    assert_eq!(lab.value::<i64>("SELECT max(segment) FROM keys"), 9);
}
