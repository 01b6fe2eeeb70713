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

/// What is found by each subject, each partition key, and both, is what is there.
fn check(lab: &mut Lab, there: &[u32]) {
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
        assert_eq!(lab.count(&filter), there.iter().filter(is_meant).count(), "{filter:?} of {there:?}");
    }
}

fn rows(lab: &Lab, of: &str) -> i64 {
    let file = rusqlite::Connection::open(lab._dir.path().join("inbox.db")).unwrap();
    file.query_row(of, (), |row| row.get(0)).unwrap()
}

fn prune(lab: &mut Lab, before: Timestamp) {
    while lab.write(Write::Prune { before, max: 7 }) != (Written::Forgotten { count: 0, more: false }) {}
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
    assert_eq!(rows(&lab, "SELECT count(*) FROM keys WHERE kind = 1"), 59);
}

#[test]
fn a_segment_goes_with_its_last_event_and_no_number_is_another_s() {
    let mut lab = Lab::new();
    for number in 0..20 {
        append(&mut lab, number);
    }
    // One fails and stays, and so do those of its segment, the last that is full.
    let attempt = Attempt { at: lab.now, status: Some(410), error: None, took: Duration::ZERO };
    let key = lab.due()[15].key;
    lab.write(Write::Ended { key, attempt, fate: Fate::Dead, urgent: false });
    lab.deliver();
    lab.wait(10);
    let delivered = lab.now;
    prune(&mut lab, delivered);
    check(&mut lab, &[15]);
    assert_eq!(rows(&lab, "SELECT count(*) FROM keys WHERE kind = 1"), 4);

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
    prune(&mut lab, discarded);
    check(&mut lab, &[]);
    assert_eq!(rows(&lab, "SELECT count(*) FROM keys"), 0);
}
