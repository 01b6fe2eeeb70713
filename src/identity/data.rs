//! The members of `data`, in the order they are written. Identity event §4.

use Shape::{
    Bool, Constant, Country, Ip, Json, Kind, Latitude, List, Longitude, Scalar, Tags, Text, Time, Timezone,
    Word,
};

/// What a member holds, and so how a vendor's value becomes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Put there by the gateway itself; no mapping may name it.
    Constant,
    /// A string as it came; numbers become their own text.
    Text,
    /// One of these.
    Word(&'static [&'static str]),
    /// One of these in any case; the last one for what is none of them.
    Kind(&'static [&'static str]),
    Bool,
    Time,
    /// ISO 3166-1 alpha-2, upper case.
    Country,
    /// Degrees, -90 to 90.
    Latitude,
    /// Degrees, -180 to 180.
    Longitude,
    Ip,
    /// An IANA name.
    Timezone,
    /// An object of strings.
    Tags,
    /// Any JSON, secrets redacted.
    Json,
    /// A string, number or boolean.
    Scalar,
    /// An array of objects with these members.
    List(&'static [Member]),
}

/// A member's path, steps joined by dots, and its shape.
pub type Member = (&'static str, Shape);

/// A member's place in [`MEMBERS`], or in the list an element is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field(pub u8);

/// The members of `data`.
#[rustfmt::skip]
pub const MEMBERS: &[Member] = &[
    ("version", Constant),
    ("event", Constant),
    ("occurred_at", Time),
    ("received_at", Constant),
    ("time_source", Constant),
    ("outcome", Word(&["success", "failure", "pending", "unknown"])),
    ("severity", Word(&["info", "low", "medium", "high", "critical"])),
    ("reason", Text),
    ("message", Text),
    ("test", Bool),
    ("actor.kind", Word(&["user", "admin", "system", "policy", "vendor", "unknown"])),
    ("actor.id", Text),
    ("actor.email", Text),
    ("actor.name", Text),
    ("actor.username", Text),
    ("subject.kind", Word(&["user", "service", "unknown"])),
    ("subject.id", Text),
    ("subject.id_alt", Text),
    ("subject.email", Text),
    ("subject.email_verified", Bool),
    ("subject.phone", Text),
    ("subject.phone_verified", Bool),
    ("subject.username", Text),
    ("subject.name", Text),
    ("subject.given_name", Text),
    ("subject.family_name", Text),
    ("subject.org_id", Text),
    ("subject.status", Word(&["active", "blocked", "deleted", "pending"])),
    ("subject.created_at", Time),
    ("subject.updated_at", Time),
    ("target.kind", Word(&["approval_group", "approval", "role", "group", "org", "device", "email", "phone", "identity", "custom_object", "integration", "login_check", "session", "application"])),
    ("target.id", Text),
    ("target.name", Text),
    ("changes", List(CHANGE)),
    ("session.id", Text),
    ("session.provider", Text),
    ("session.method", Text),
    ("session.mfa", Bool),
    ("approval.kind", Word(&["approval", "transaction"])),
    ("approval.id", Text),
    ("approval.parent_id", Text),
    ("approval.state", Word(&["pending", "approved", "denied", "expired"])),
    ("approval.vendor_state", Text),
    ("approval.group.id", Text),
    ("approval.group.name", Text),
    ("approval.group.description", Text),
    ("approval.group.threshold", Text),
    ("approval.approver.id", Text),
    ("approval.approver.name", Text),
    ("approval.requestor", Text),
    ("approval.context", Text),
    ("approval.message", Text),
    ("approval.user_message", Text),
    ("approval.host", Text),
    ("approval.created_at", Time),
    ("approval.completed_at", Time),
    ("approval.expires_at", Time),
    ("approval.transactions", List(TRANSACTION)),
    ("approval.payload", Json),
    ("device.id", Text),
    ("device.label", Text),
    ("device.type", Kind(&["desktop", "mobile", "tablet", "tv", "bot", "other"])),
    ("device.brand", Text),
    ("device.model", Text),
    ("device.family", Text),
    ("device.mobile", Bool),
    ("device.os.name", Text),
    ("device.os.version", Text),
    ("device.browser.name", Text),
    ("device.browser.version", Text),
    ("device.browser.major", Text),
    ("device.user_agent", Text),
    ("network.ip", Ip),
    ("network.ip_version", Constant),
    ("geo.source", Word(&["vendor_ip", "vendor_device", "vendor_profile"])),
    ("geo.country", Country),
    ("geo.country_name", Text),
    ("geo.region", Text),
    ("geo.region_iso", Constant),
    ("geo.city", Text),
    ("geo.lat", Latitude),
    ("geo.lon", Longitude),
    ("geo.label", Text),
    ("geo.timezone", Timezone),
    ("tags", Tags),
    ("vendor.name", Constant),
    ("vendor.event", Constant),
    ("vendor.mapping", Constant),
    ("vendor.event_id", Text),
    ("vendor.delivery_id", Text),
    ("vendor.hook_id", Text),
    ("vendor.request_id", Text),
    ("vendor.trace", Text),
    ("vendor.origin", Text),
    ("vendor.account_id", Text),
    ("vendor.application_id", Text),
    ("vendor.verification", Constant),
    ("vendor.redacted", Constant),
    ("vendor.raw_sha256", Constant),
    ("vendor.raw_bytes", Constant),
    ("vendor.raw", Constant),
    ("unmapped", Constant),
];

/// The members of an element of `approval.transactions`.
#[rustfmt::skip]
const TRANSACTION: &[Member] = &[
    ("id", Text),
    ("state", Word(&["pending", "approved", "denied", "expired"])),
    ("vendor_state", Text),
    ("approver.id", Text),
    ("approver.name", Text),
    ("requestor", Text),
    ("context", Text),
    ("message", Text),
    ("user_message", Text),
    ("host", Text),
    ("created_at", Time),
    ("completed_at", Time),
    ("expires_at", Time),
    ("tags", Tags),
];

/// The members of an element of `changes`.
const CHANGE: &[Member] = &[("field", Text), ("from", Scalar), ("to", Scalar)];

impl Field {
    /// The member of that path. None if there is none.
    #[must_use]
    pub fn named(members: &[Member], path: &str) -> Option<Self> {
        let at = members.iter().position(|(name, _)| *name == path)?;
        u8::try_from(at).ok().map(Self)
    }

    #[must_use]
    pub fn path(self, members: &[Member]) -> &'static str {
        members[usize::from(self.0)].0
    }

    #[must_use]
    pub fn shape(self, members: &[Member]) -> Shape {
        members[usize::from(self.0)].1
    }
}

/// A member that the gateway itself reads or writes.
///
/// # Panics
///
/// At compile time, if there is no such member.
#[must_use]
pub const fn member(path: &str) -> Field {
    let mut at = 0;
    while at < MEMBERS.len() {
        if same(MEMBERS[at].0.as_bytes(), path.as_bytes()) {
            #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 256 members")]
            return Field(at as u8);
        }
        at += 1;
    }
    panic!("no such member")
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_found_by_its_path_and_no_other() {
        for members in [MEMBERS, TRANSACTION, CHANGE] {
            for (at, (path, shape)) in members.iter().enumerate() {
                let field = Field::named(members, path).unwrap();
                assert_eq!((usize::from(field.0), field.path(members)), (at, *path), "a path stands once");
                assert_eq!(field.shape(members), *shape);
            }
            assert_eq!(Field::named(members, ""), None);
            assert_eq!(Field::named(members, "ide"), None);
        }
        for (path, _) in MEMBERS {
            assert_eq!(Some(member(path)), Field::named(MEMBERS, path));
        }
    }

    #[test]
    #[should_panic(expected = "no such member")]
    fn what_is_the_beginning_of_a_member_is_none() {
        _ = member("vers");
    }

    #[test]
    #[should_panic(expected = "no such member")]
    fn what_begins_like_a_member_is_none() {
        _ = member("version.x");
    }
}
