//! The closed list of event types. A vendor file or an operator's mapping may only name these; what fits none is
//! [`EventType::VendorEvent`].

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

macro_rules! types {
    ($($variant:ident: $name:literal, $outcome:ident, $severity:ident;)*) => {
        /// What happened. The names' grammar is `^[a-z]+(\.[a-z]+){1,2}$`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventType { $($variant),* }

        impl EventType {
            /// Every type, in the order of the specification.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name without the operator's prefix: `"approval.denied"`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// How such an event ends, unless the vendor says otherwise.
            #[must_use]
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$variant => Outcome::$outcome),* }
            }

            /// How bad such an event is, unless the operator says otherwise.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),* }
            }
        }

        impl FromStr for EventType {
            type Err = ();

            fn from_str(name: &str) -> Result<Self, ()> {
                match name { $($name => Ok(Self::$variant),)* _ => Err(()) }
            }
        }

        const NAMES: &[&str] = &[$($name),*];
    };
}

types! {
    // Active: a built-in vendor reaches them.
    ApprovalPending: "approval.pending", Pending, Info;
    ApprovalApproved: "approval.approved", Success, Info;
    ApprovalDenied: "approval.denied", Failure, Medium;
    ApprovalExpired: "approval.expired", Failure, Low;
    ApprovalTransactionPending: "approval.transaction.pending", Pending, Info;
    ApprovalTransactionApproved: "approval.transaction.approved", Success, Info;
    ApprovalTransactionDenied: "approval.transaction.denied", Failure, Medium;
    ApprovalTransactionExpired: "approval.transaction.expired", Failure, Low;
    SessionLogin: "session.login", Success, Info;
    LoginFlagged: "login.flagged", Unknown, High;
    DeviceDetected: "device.detected", Unknown, Medium;
    UserCreated: "user.created", Success, Info;
    UserUpdated: "user.updated", Success, Info;
    UserDeleted: "user.deleted", Success, Medium;
    UserBlocked: "user.blocked", Success, Medium;
    UserEmailAdded: "user.email.added", Success, Info;
    UserEmailRemoved: "user.email.removed", Success, Low;
    UserEmailVerified: "user.email.verified", Success, Info;
    UserEmailUnverified: "user.email.unverified", Success, Low;
    UserPhoneChanged: "user.phone.changed", Success, Low;
    UserPhoneRemoved: "user.phone.removed", Success, Low;
    UserPhoneVerified: "user.phone.verified", Success, Info;
    UserPhoneUnverified: "user.phone.unverified", Success, Low;
    UserUsernameChanged: "user.username.changed", Success, Info;
    UserIdentityLinked: "user.identity.linked", Success, Low;
    UserIdentityUnlinked: "user.identity.unlinked", Success, Low;
    UserConsentUpdated: "user.consent.updated", Success, Info;
    CredentialPasswordSet: "credential.password.set", Success, Low;
    CredentialPasswordChanged: "credential.password.changed", Success, Low;
    CredentialPasswordReset: "credential.password.reset", Success, Medium;
    CredentialPinSet: "credential.pin.set", Success, Low;
    CredentialPinChanged: "credential.pin.changed", Success, Low;
    CredentialPinReset: "credential.pin.reset", Success, Medium;
    RoleAssigned: "role.assigned", Success, Medium;
    RoleUnassigned: "role.unassigned", Success, Low;
    RoleContextRemoved: "role.context.removed", Success, Low;
    ObjectCreated: "object.created", Success, Info;
    ObjectUpdated: "object.updated", Success, Info;
    ObjectDeleted: "object.deleted", Success, Info;
    IntegrationCreated: "integration.created", Success, Info;
    IntegrationConfigured: "integration.configured", Success, Info;
    IntegrationEnabled: "integration.enabled", Success, Info;
    IntegrationDisabled: "integration.disabled", Success, High;
    TestPing: "test.ping", Success, Info;
    VendorEvent: "vendor.event", Unknown, Info;
    // Reserved: named now, so that later vendors and operators' own mappings agree.
    SessionLoginFailed: "session.login.failed", Failure, Medium;
    SessionLogout: "session.logout", Success, Info;
    SessionRevoked: "session.revoked", Success, Medium;
    LoginBlocked: "login.blocked", Failure, High;
    DeviceRegistered: "device.registered", Success, Info;
    DeviceRemoved: "device.removed", Success, Low;
    UserUnblocked: "user.unblocked", Success, Low;
    UserEmailChanged: "user.email.changed", Success, Low;
    CredentialFactorAdded: "credential.factor.added", Success, Low;
    CredentialFactorRemoved: "credential.factor.removed", Success, Medium;
    CredentialApikeyCreated: "credential.apikey.created", Success, Low;
    CredentialApikeyRevoked: "credential.apikey.revoked", Success, Low;
    CredentialCompromised: "credential.compromised", Unknown, Critical;
    GroupCreated: "group.created", Success, Info;
    GroupUpdated: "group.updated", Success, Info;
    GroupDeleted: "group.deleted", Success, Low;
    GroupMemberAdded: "group.member.added", Success, Low;
    GroupMemberRemoved: "group.member.removed", Success, Low;
    OrgCreated: "org.created", Success, Info;
    OrgUpdated: "org.updated", Success, Info;
    OrgDeleted: "org.deleted", Success, Medium;
    OrgMemberAdded: "org.member.added", Success, Low;
    OrgMemberRemoved: "org.member.removed", Success, Low;
    OrgInvitationSent: "org.invitation.sent", Success, Info;
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($variant),* }

        impl $name {
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(word: &str) -> Result<Self, ()> {
                match word { $($word => Ok(Self::$variant),)* _ => Err(()) }
            }
        }
    };
}

words! {
    /// How what the event tells of ended.
    Outcome { Success = "success", Failure = "failure", Pending = "pending", Unknown = "unknown" }
}

words! {
    /// How much it should disturb somebody.
    Severity { Info = "info", Low = "low", Medium = "medium", High = "high", Critical = "critical" }
}

/// Short types to let through: exact names, or prefixes such as `approval.*` (which holds for
/// `approval.transaction.*` too).
#[derive(Clone, Debug)]
pub struct TypeFilter(Vec<EventType>);

// === impl EventType ===

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        name.parse().map_err(|()| de::Error::unknown_variant(&name, NAMES))
    }
}

impl Serialize for EventType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for EventType {
    fn schema_name() -> Cow<'static, str> {
        "EventType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": NAMES })
    }
}

// === impl TypeFilter ===

impl TypeFilter {
    /// Lets everything through.
    #[must_use]
    pub fn all() -> Self {
        Self(EventType::ALL.to_vec())
    }

    /// Reads a list of names and prefixes.
    ///
    /// # Errors
    ///
    /// The position of the first entry that fits no type.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, usize> {
        let mut types = Vec::new();
        for (position, pattern) in patterns.iter().enumerate() {
            let pattern = pattern.as_ref();
            let before = types.len();
            types.extend(EventType::ALL.iter().filter(|known| match pattern.strip_suffix('*') {
                Some(prefix) => {
                    known.as_str().starts_with(prefix) && (prefix.is_empty() || prefix.ends_with('.'))
                }
                None => known.as_str() == pattern,
            }));
            if types.len() == before {
                return Err(position);
            }
        }
        Ok(Self(types))
    }

    #[must_use]
    pub fn lets(&self, event_type: EventType) -> bool {
        self.0.contains(&event_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_closed_and_well_formed() {
        assert_eq!(EventType::ALL.len(), 69);
        for known in EventType::ALL {
            let words: Vec<&str> = known.as_str().split('.').collect();
            assert!((2..=3).contains(&words.len()), "{known}");
            assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())), "{known}");
            assert_eq!(known.as_str().parse(), Ok(*known));
        }
        assert!(serde_json::from_str::<EventType>("\"user.exploded\"").is_err());
    }

    #[test]
    fn a_type_is_written_and_described_by_its_name() {
        for known in EventType::ALL {
            assert_eq!(known.to_string(), known.as_str());
            let text = serde_json::to_string(known).unwrap();
            assert_eq!(text, format!("\"{known}\""));
            assert_eq!(serde_json::from_str::<EventType>(&text).unwrap(), *known);
            assert!(TypeFilter::all().lets(*known));
        }
        assert_eq!(EventType::schema_name(), "EventType");
        let schema = serde_json::to_value(schemars::schema_for!(EventType)).unwrap();
        assert_eq!((&schema["type"], &schema["enum"]), (&"string".into(), &serde_json::json!(NAMES)));
    }

    #[test]
    fn filters_are_names_or_prefixes() {
        let filter = TypeFilter::parse(&["approval.*", "user.created"]).unwrap();
        assert!(filter.lets(EventType::ApprovalTransactionDenied));
        assert!(filter.lets(EventType::UserCreated));
        assert!(!filter.lets(EventType::UserUpdated));
        assert!(TypeFilter::parse(&["*"]).unwrap().lets(EventType::VendorEvent));
        assert_eq!(TypeFilter::parse(&["user.*", "user.nothing"]).unwrap_err(), 1);
        assert_eq!(TypeFilter::parse(&["use*"]).unwrap_err(), 0);
    }
}
