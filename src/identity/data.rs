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

/// A member: where it stands and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Steps joined by dots.
    pub path: &'static str,
    /// The path but for its last step, and that step.
    pub parent: Parent,
    pub name: &'static str,
    pub key: Key,
    pub shape: Shape,
}

/// The path of an object that members stand in, empty at the top. Told from others by its hash: there are few, and no two
/// have the same.
#[derive(Clone, Copy, Debug)]
pub struct Parent {
    pub path: &'static str,
    hash: u32,
}

impl Parent {
    pub const TOP: Self = Self::new("");

    const fn new(path: &'static str) -> Self {
        let (bytes, mut hash, mut at) = (path.as_bytes(), 0_u32, 0);
        while at < bytes.len() {
            hash = hash.wrapping_mul(31).wrapping_add(bytes[at] as u32);
            at += 1;
        }
        Self { path, hash }
    }
}

impl PartialEq for Parent {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Parent {}

/// A name as it stands in a JSON text behind another member: a comma, the name in quotes, a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    text: [u8; KEY_BYTES_MAX],
    bytes: u8,
}

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 24;

/// A member's place in [`MEMBERS`], or in the list an element is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field(pub u8);

/// The members of `data`.
#[rustfmt::skip]
pub const MEMBERS: &[Member] = &[
    at("version", Constant),
    at("event", Constant),
    at("occurred_at", Time),
    at("received_at", Constant),
    at("time_source", Constant),
    at("outcome", Word(&["success", "failure", "pending", "unknown"])),
    at("severity", Word(&["info", "low", "medium", "high", "critical"])),
    at("reason", Text),
    at("message", Text),
    at("test", Bool),
    at("actor.kind", Word(&["user", "admin", "system", "policy", "vendor", "unknown"])),
    at("actor.id", Text),
    at("actor.email", Text),
    at("actor.name", Text),
    at("actor.username", Text),
    at("subject.kind", Word(&["user", "service", "unknown"])),
    at("subject.id", Text),
    at("subject.id_alt", Text),
    at("subject.email", Text),
    at("subject.email_verified", Bool),
    at("subject.phone", Text),
    at("subject.phone_verified", Bool),
    at("subject.username", Text),
    at("subject.name", Text),
    at("subject.given_name", Text),
    at("subject.family_name", Text),
    at("subject.org_id", Text),
    at("subject.status", Word(&["active", "blocked", "deleted", "pending"])),
    at("subject.created_at", Time),
    at("subject.updated_at", Time),
    at("target.kind", Word(&["approval_group", "approval", "role", "group", "org", "device", "email", "phone", "identity", "custom_object", "integration", "login_check", "session", "application"])),
    at("target.id", Text),
    at("target.name", Text),
    at("changes", List(CHANGE)),
    at("session.id", Text),
    at("session.provider", Text),
    at("session.method", Text),
    at("session.mfa", Bool),
    at("approval.kind", Word(&["approval", "transaction"])),
    at("approval.id", Text),
    at("approval.parent_id", Text),
    at("approval.state", Word(&["pending", "approved", "denied", "expired"])),
    at("approval.vendor_state", Text),
    at("approval.group.id", Text),
    at("approval.group.name", Text),
    at("approval.group.description", Text),
    at("approval.group.threshold", Text),
    at("approval.approver.id", Text),
    at("approval.approver.name", Text),
    at("approval.requestor", Text),
    at("approval.context", Text),
    at("approval.message", Text),
    at("approval.user_message", Text),
    at("approval.host", Text),
    at("approval.created_at", Time),
    at("approval.completed_at", Time),
    at("approval.expires_at", Time),
    at("approval.transactions", List(TRANSACTION)),
    at("approval.payload", Json),
    at("device.id", Text),
    at("device.label", Text),
    at("device.type", Kind(&["desktop", "mobile", "tablet", "tv", "bot", "other"])),
    at("device.brand", Text),
    at("device.model", Text),
    at("device.family", Text),
    at("device.mobile", Bool),
    at("device.os.name", Text),
    at("device.os.version", Text),
    at("device.browser.name", Text),
    at("device.browser.version", Text),
    at("device.browser.major", Text),
    at("device.user_agent", Text),
    at("network.ip", Ip),
    at("network.ip_version", Constant),
    at("geo.source", Word(&["vendor_ip", "vendor_device", "vendor_profile"])),
    at("geo.country", Country),
    at("geo.country_name", Text),
    at("geo.region", Text),
    at("geo.region_iso", Constant),
    at("geo.city", Text),
    at("geo.lat", Latitude),
    at("geo.lon", Longitude),
    at("geo.label", Text),
    at("geo.timezone", Timezone),
    at("tags", Tags),
    at("vendor.name", Constant),
    at("vendor.event", Constant),
    at("vendor.mapping", Constant),
    at("vendor.event_id", Text),
    at("vendor.delivery_id", Text),
    at("vendor.hook_id", Text),
    at("vendor.request_id", Text),
    at("vendor.trace", Text),
    at("vendor.origin", Text),
    at("vendor.account_id", Text),
    at("vendor.application_id", Text),
    at("vendor.verification", Constant),
    at("vendor.redacted", Constant),
    at("vendor.raw_sha256", Constant),
    at("vendor.raw_bytes", Constant),
    at("vendor.raw", Constant),
    at("unmapped", Constant),
];

/// The members of an element of `approval.transactions`.
#[rustfmt::skip]
const TRANSACTION: &[Member] = &[
    at("id", Text),
    at("state", Word(&["pending", "approved", "denied", "expired"])),
    at("vendor_state", Text),
    at("approver.id", Text),
    at("approver.name", Text),
    at("requestor", Text),
    at("context", Text),
    at("message", Text),
    at("user_message", Text),
    at("host", Text),
    at("created_at", Time),
    at("completed_at", Time),
    at("expires_at", Time),
    at("tags", Tags),
];

/// The members of an element of `changes`.
const CHANGE: &[Member] = &[at("field", Text), at("from", Scalar), at("to", Scalar)];

impl Field {
    /// The member of that path. None if there is none.
    #[must_use]
    pub fn named(members: &[Member], path: &str) -> Option<Self> {
        let at = members.iter().position(|member| member.path == path)?;
        u8::try_from(at).ok().map(Self)
    }

    /// The first and the last member below this one's parent. None at the top.
    #[must_use]
    pub fn family(self, members: &'static [Member]) -> Option<(Self, Self)> {
        let parent = self.of(members).parent.path;
        let below =
            |member: &Member| member.path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'));
        let place = |at: usize| u8::try_from(at).ok().map(Self);
        place(members.iter().position(below)?).zip(place(members.iter().rposition(below)?))
    }

    #[must_use]
    pub fn of(self, members: &'static [Member]) -> &'static Member {
        &members[usize::from(self.0)]
    }

    #[must_use]
    pub fn shape(self, members: &'static [Member]) -> Shape {
        self.of(members).shape
    }
}

const fn at(path: &'static str, shape: Shape) -> Member {
    let bytes = path.as_bytes();
    let mut name = bytes.len();
    while name > 0 && bytes[name - 1] != b'.' {
        name -= 1;
    }
    let (parent, name) = path.split_at(name);
    let (parent, _) = parent.split_at(parent.len().saturating_sub(1));
    Member { path, parent: Parent::new(parent), name, key: key(name), shape }
}

const fn key(name: &str) -> Key {
    let (name, mut text, mut at) = (name.as_bytes(), [b'"'; KEY_BYTES_MAX], 0);
    text[0] = b',';
    while at < name.len() {
        text[at + 2] = name[at];
        at += 1;
    }
    text[at + 3] = b':';
    #[expect(clippy::cast_possible_truncation, reason = "it has room in the array")]
    Key { text, bytes: at as u8 + 4 }
}

impl Key {
    /// Writes it, `first` without the comma.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, first: bool) {
        let end = out.len() + usize::from(self.bytes) - usize::from(first);
        // As many bytes each time are written faster than just those that count.
        match first {
            false => out.extend_from_slice(&self.text),
            true => out.extend_from_slice(&self.text[1..]),
        }
        out.truncate(end);
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
        if same(MEMBERS[at].path.as_bytes(), path.as_bytes()) {
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
            for (at, member) in members.iter().enumerate() {
                let Member { path, parent, name, shape, .. } = member;
                let field = Field::named(members, path).unwrap();
                assert_eq!(usize::from(field.0), at, "a path stands once");
                assert_eq!(field.shape(members), *shape);
                assert_eq!((parent.path, *name), path.rsplit_once('.').unwrap_or(("", path)));
                let mut keys = Vec::new();
                member.key.write(&mut keys, true);
                member.key.write(&mut keys, false);
                assert_eq!(String::from_utf8(keys).unwrap(), format!("\"{name}\":,\"{name}\":"));
            }
            assert_eq!(Field::named(members, ""), None);
            assert_eq!(Field::named(members, "ide"), None);
        }
        for Member { path, .. } in MEMBERS {
            assert_eq!(Some(member(path)), Field::named(MEMBERS, path));
        }
    }

    #[test]
    fn parents_are_told_apart() {
        let members: Vec<_> = [MEMBERS, TRANSACTION, CHANGE].concat();
        for (one, other) in members.iter().flat_map(|one| members.iter().map(move |other| (one, other))) {
            assert_eq!(one.parent == other.parent, one.parent.path == other.parent.path);
        }
    }

    #[test]
    fn what_is_below_one_parent_stands_together() {
        for members in [MEMBERS, TRANSACTION, CHANGE] {
            for at in 0..members.len() {
                let field = Field(u8::try_from(at).unwrap());
                let parent = field.of(members).parent.path;
                let Some((first, last)) = field.family(members) else {
                    assert_eq!(parent, "");
                    continue;
                };
                for (at, member) in members.iter().enumerate() {
                    let inside = (usize::from(first.0)..=usize::from(last.0)).contains(&at);
                    assert_eq!(member.path.starts_with(&format!("{parent}.")), inside, "{}", member.path);
                }
            }
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
