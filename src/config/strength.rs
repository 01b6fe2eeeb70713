//! Does a secret protect anything? Not if it is empty, a placeholder somebody forgot, or short enough to be guessed.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::secret::{SECRET_BYTES_MIN, serialised};

/// Why these bytes protect nothing, and what to do. `allow_weak`: none where it cannot be set.
pub(super) fn unfit(bytes: &[u8], allow_weak: Option<bool>) -> Option<(String, String)> {
    const GENERATE: &str = "make one with `openssl rand -base64 32`";
    let refuse = |text: &str, hint: &str| Some((text.to_owned(), hint.to_owned()));
    if bytes.is_empty() {
        return refuse("the secret is empty", GENERATE);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return refuse("the secret is blank", GENERATE);
    }
    if str::from_utf8(bytes).is_ok_and(is_placeholder) {
        return refuse("the secret is a placeholder", GENERATE);
    }
    let Some(length) = key_bytes(bytes) else {
        return refuse("what follows `whsec_` is not base64", "copy the secret again, whole");
    };
    if length < SECRET_BYTES_MIN && allow_weak != Some(true) {
        let text = format!("the secret has {length} bytes, fewer than {SECRET_BYTES_MIN}");
        let or = if allow_weak.is_some() { ", or take it with `allow_weak = true`" } else { "" };
        return Some((text, format!("{GENERATE}{or}")));
    }
    None
}

/// Length of the key: of what `whsec_…` stands for, else of the text. None: that is not base64.
fn key_bytes(bytes: &[u8]) -> Option<usize> {
    let Some(text) = serialised(bytes) else {
        return Some(bytes.len());
    };
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    STANDARD_NO_PAD.decode(&text[..text.len() - padding]).ok().map(|key| key.len())
}

/// What people write where a secret is to come. Whole texts only: a real secret may contain any of them.
fn is_placeholder(text: &str) -> bool {
    const KNOWN: [&str; 17] = [
        "",
        "changeme",
        "change-me",
        "secret",
        "my-secret",
        "mysecret",
        "your-secret",
        "the-secret",
        "password",
        "passwd",
        "todo",
        "tbd",
        "example",
        "placeholder",
        "replaceme",
        "replace-me",
        "none",
    ];
    let text = text.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    let text = text.strip_prefix("v1,").unwrap_or(&text);
    let text = text.strip_prefix("whsec-").unwrap_or(text);
    let between = |open, close| text.len() > 1 && text.starts_with(open) && text.ends_with(close);
    KNOWN.contains(&text)
        || text.chars().all(|c| matches!(c, 'x' | '*' | '.' | '…' | '-' | '?'))
        || between("<", ">")
        || between("${", "}")
        || between("your-", "-here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, allow_weak: bool) -> Option<String> {
        unfit(text.as_bytes(), Some(allow_weak)).map(|(text, _)| text)
    }

    #[test]
    fn placeholders_are_refused_in_any_dress() {
        for text in [
            "changeme",
            "Change-Me",
            "SECRET",
            "password",
            "todo",
            "xxxxxxxxxxxxxxxxxxxx",
            "your-sendauth-secret-here",
            "your_webhook_secret_here",
            "<put the secret here>",
            "${SENDAUTH_SECRET}",
            "example",
            "placeholder",
            "replace_me",
            "whsec_",
            "whsec_xxxxxxxxxxxxxxxxxxxxxxxx",
            "v1,whsec_",
            " changeme ",
        ] {
            assert_eq!(judge(text, true).as_deref(), Some("the secret is a placeholder"), "{text}");
        }
        for text in ["the-changeme-secret-of-1871", "your-0123456789abcdef", "<0123456789abcdef"] {
            assert_eq!(judge(text, false), None, "{text}");
        }
    }

    #[test]
    fn what_can_be_guessed_is_refused() {
        assert_eq!(judge("", true).as_deref(), Some("the secret is empty"));
        assert_eq!(judge(" \t\n", true).as_deref(), Some("the secret is blank"));
        let short = |length: usize| Some(format!("the secret has {length} bytes, fewer than 16"));
        assert_eq!(judge("0123456789abcde", false), short(15));
        assert_eq!(judge("0123456789abcde", true), None);
        assert_eq!(judge("0123456789abcdef", false), None);
        // What it stands for counts, however long the text is.
        assert_eq!(judge("whsec_MDEyMzQ1Njc4OTAx", false), short(12));
        assert_eq!(judge("v1,whsec_MDEyMzQ1Njc4OTAx", false), short(12));
        assert_eq!(judge("whsec_MDEyMzQ1Njc4OWFiY2RlZg==", false), None);
        assert_eq!(judge("whsec_MDEyMzQ1Njc4OWFiY2RlZg", false), None);
    }
}
