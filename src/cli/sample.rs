//! Samples: bodies a vendor could have sent, a new event each time.

use std::str::FromStr;

use anyhow::{Context, bail};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::vendor::format::VendorFile;

/// Seconds before now from which a sample's own time is drawn.
const AGE_SECONDS_MAX: i64 = 86_400;

/// Makes bodies.
#[derive(Debug)]
pub(super) struct Sample {
    /// The vendor's name of the event.
    pub event: String,
    body: Value,
    fresh: Vec<String>,
    assignments: Vec<Assignment>,
    /// The next time, in Unix seconds. Counts down, so that no two samples of one run have the same.
    at_seconds: i64,
}

/// `POINTER=VALUE`: a value put into a body.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assignment {
    pointer: String,
    value: Value,
}

impl Sample {
    /// The sample of an event; of the vendor's first one, if none is named.
    ///
    /// # Errors
    ///
    /// There is no such event; says which there are.
    pub(super) fn of(file: &VendorFile, event: Option<&str>, now: Timestamp) -> anyhow::Result<Self> {
        let same = |known: &str, name: &str| {
            if file.ignore_name_case { known.eq_ignore_ascii_case(name) } else { known == name }
        };
        let all =
            || file.sample.iter().flat_map(|sample| sample.events.iter().map(move |name| (sample, name)));
        let found = match event {
            Some(event) => all().find(|(_, name)| same(name, event)),
            None => all().next(),
        };
        let Some((sample, name)) = found else {
            let known: Vec<&str> = all().map(|(_, name)| name.as_str()).collect();
            bail!("{} has no sample of such an event; there are: {}", file.title, known.join(", "));
        };
        let mut body = serde_json::from_str(&sample.body)
            .with_context(|| format!("the sample of {name} is not valid JSON"))?;
        if let Some(pointer) = &sample.set {
            Assignment { pointer: pointer.clone(), value: name.as_str().into() }.put(&mut body)?;
        }
        Ok(Self { fresh: sample.fresh.clone(), ..Self::fixed(name, body, now) })
    }

    /// A body in which nothing is fresh.
    pub(super) fn fixed(event: &str, body: Value, now: Timestamp) -> Self {
        Self {
            event: event.to_owned(),
            body,
            fresh: Vec::new(),
            assignments: Vec::new(),
            at_seconds: now.as_second() - fastrand::i64(0..AGE_SECONDS_MAX),
        }
    }

    /// With these values put in last.
    pub(super) fn with(self, assignments: Vec<Assignment>) -> Self {
        Self { assignments, ..self }
    }

    /// The next body.
    ///
    /// # Errors
    ///
    /// An assignment fits nowhere.
    pub(super) fn next(&mut self) -> anyhow::Result<Bytes> {
        let mut body = self.body.clone();
        self.at_seconds -= 1;
        for pointer in &self.fresh {
            match body.pointer_mut(pointer) {
                Some(Value::String(text)) => *text = unique(),
                Some(number @ Value::Number(_)) => *number = self.at_seconds.into(),
                _ => {}
            }
        }
        self.assignments.iter().try_for_each(|assignment| assignment.put(&mut body))?;
        Ok(serde_json::to_vec(&body)?.into())
    }
}

impl Assignment {
    fn put(&self, body: &mut Value) -> anyhow::Result<()> {
        if let Some(place) = body.pointer_mut(&self.pointer) {
            *place = self.value.clone();
            return Ok(());
        }
        let (parent, member) = self.pointer.rsplit_once('/').unwrap_or_default();
        match body.pointer_mut(parent) {
            Some(Value::Object(members)) => {
                // RFC 6901 §4: in this order, so that ~01 is ~1.
                members.insert(member.replace("~1", "/").replace("~0", "~"), self.value.clone());
                Ok(())
            }
            _ => bail!("the body has no object at {parent:?} to put {member:?} into"),
        }
    }
}

impl FromStr for Assignment {
    type Err = &'static str;

    /// The value is JSON, or else a text.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (pointer, value) = text.split_once('=').ok_or("expected POINTER=VALUE")?;
        if !pointer.starts_with('/') {
            return Err("a JSON pointer begins with /");
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        Ok(Self { pointer: pointer.to_owned(), value })
    }
}

/// A random UUID.
pub(super) fn unique() -> String {
    uuid::Builder::from_u128(fastrand::u128(..))
        .with_variant(uuid::Variant::RFC4122)
        .with_version(uuid::Version::Random)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        json::Document,
        vendor::{BUILTIN, Extent, Identity, Options, Plan, builtin},
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn every_sample_is_a_new_event_of_its_name() {
        for (vendor, _) in BUILTIN {
            let file = builtin(vendor).unwrap();
            let plan = Plan::compile(vendor, &file, Options::default()).unwrap();
            let events: Vec<&String> = file.sample.iter().flat_map(|sample| &sample.events).collect();
            assert!(!events.is_empty());
            for event in events {
                let mut sample = Sample::of(&file, Some(event), NOW).unwrap();
                let identities: BTreeSet<String> = (0..3)
                    .map(|_| {
                        let document = Document::parse(sample.next().unwrap()).unwrap();
                        let [reading] = &plan.read(&document, Extent::Data).unwrap()[..] else {
                            panic!("one event")
                        };
                        assert_eq!(*reading.name, **event, "{vendor}");
                        match &reading.identity {
                            Identity::Fixed(id) => id.to_string(),
                            Identity::Windowed(windowed) => windowed.id(0, 0).to_string(),
                        }
                    })
                    .collect();
                assert_eq!(identities.len(), 3, "{vendor} {event}");
            }
        }
    }

    #[test]
    fn events_are_found_by_name() {
        let file = builtin("loginradius").unwrap();
        assert_eq!(Sample::of(&file, Some("UpdateProfile"), NOW).unwrap().event, "updateprofile");
        assert_eq!(Sample::of(&file, None, NOW).unwrap().event, "login");
        let file = builtin("sendauth").unwrap();
        let error = Sample::of(&file, Some("Approval.Denied"), NOW).unwrap_err().to_string();
        assert!(error.starts_with("SendAuth has no sample") && error.contains("approval.denied"), "{error}");
    }

    #[test]
    fn assignments_win() {
        let assignments = [r#"/id="7""#, "/state=on hold", "/a~1b=[1]", "/authGroup/threshold=2"];
        let assignments = assignments.map(|text| text.parse().unwrap()).to_vec();
        let file = builtin("sendauth").unwrap();
        let mut sample = Sample::of(&file, None, NOW).unwrap().with(assignments);
        let body: Value = serde_json::from_slice(&sample.next().unwrap()).unwrap();
        assert_eq!((&body["id"], &body["state"]), (&"7".into(), &"on hold".into()));
        assert_eq!((&body["a/b"][0], &body["authGroup"]["threshold"]), (&1.into(), &2.into()));

        assert!("id=1".parse::<Assignment>().is_err() && "/id".parse::<Assignment>().is_err());
        let nowhere = vec!["/x/y=1".parse().unwrap()];
        assert!(sample.with(nowhere).next().is_err());
    }
}
