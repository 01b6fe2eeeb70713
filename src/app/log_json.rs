//! A log line as JSON: time, level, message and fields, target. Written as it is visited, without a map in between.

use std::fmt::{self, Debug, Display, Write};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{clock::Clock, identity::time};

/// One JSON object a line.
#[derive(Debug)]
pub(super) struct JsonLines {
    pub clock: Clock,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = Vec::with_capacity(24);
        time::write_millis(&mut timestamp, self.clock.now());
        line.write_str("{\"timestamp\":\"")?;
        // Digits and punctuation.
        line.write_str(str::from_utf8(&timestamp).unwrap_or_default())?;
        line.write_str("\",\"level\":\"")?;
        line.write_str(event.metadata().level().as_str())?;
        line.write_char('"')?;
        let mut fields = Fields { line, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        let mut line = fields.line;
        line.write_str(",\"target\":\"")?;
        Escaped(&mut line).write_str(event.metadata().target())?;
        line.write_str("\"}\n")
    }
}

struct Fields<'a> {
    line: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn plain(&mut self, field: &Field, value: impl Display) {
        if self.result.is_ok() {
            self.result = self.begin(field).and_then(|()| write!(self.line, "{value}"));
        }
    }

    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.quoted(field, |out| out.write_fmt(value));
    }

    fn quoted(&mut self, field: &Field, write: impl FnOnce(&mut Escaped<'_, Writer<'_>>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self
                .begin(field)
                .and_then(|()| self.line.write_char('"'))
                .and_then(|()| write(&mut Escaped(&mut self.line)))
                .and_then(|()| self.line.write_char('"'));
        }
    }

    fn begin(&mut self, field: &Field) -> fmt::Result {
        for piece in [",\"", name(field), "\":"] {
            self.line.write_str(piece)?;
        }
        Ok(())
    }
}

/// Names are our own: without `r#` they need no escaping.
fn name(field: &Field) -> &'static str {
    field.name().strip_prefix("r#").unwrap_or_else(|| field.name())
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.quoted(field, |out| out.write_str(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        if value.is_finite() {
            self.plain(field, value);
        }
    }
}

/// Escapes what is written as a JSON string needs it (RFC 8259 §7), and the line ends of Unicode, so that a line is one.
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly all texts need nothing.
        let plain = |all, byte| all & matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
        if text.bytes().fold(true, plain) {
            return self.0.write_str(text);
        }
        let special =
            |c: char| matches!(c, '"' | '\\' | '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}');
        let mut rest = text;
        while let Some(at) = rest.find(special) {
            let (plain, after) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = after.chars();
            match characters.next() {
                Some('"') => self.0.write_str("\\\"")?,
                Some('\\') => self.0.write_str("\\\\")?,
                Some('\n') => self.0.write_str("\\n")?,
                Some('\r') => self.0.write_str("\\r")?,
                Some('\t') => self.0.write_str("\\t")?,
                Some(other) => write!(self.0, "\\u{:04x}", u32::from(other))?,
                None => {}
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use serde_json::Value;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .event_format(JsonLines { clock: Clock::system() })
            .with_writer(lines.clone())
            .finish();
        let nasty = "a\"b\\c\n\r\t\0\x1b[31m\u{7f}\u{85}\u{2028}é€😀";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(nasty, shown = ?nasty, display = %nasty, r#type = "t", none = None::<u8>, "{nasty}");
            tracing::info!(whole = 7_u64, less = -7_i64, half = 0.5, not = f64::NAN, yes = true, "numbers");
        });
        let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!written.trim_end_matches('\n').contains(|c: char| c.is_control() && c != '\n'), "{written}");
        let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = lines.as_slice() else { panic!("{written}") };
        for name in ["nasty", "display", "message"] {
            assert_eq!(first[name], nasty, "{name}");
        }
        assert_eq!(first["shown"], format!("{nasty:?}"));
        assert_eq!((&first["type"], &first["level"]), (&"t".into(), &"WARN".into()));
        assert!(first.get("none").is_none() && first["target"].as_str().unwrap().ends_with("tests"));
        assert!(first["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        let numbers = ["whole", "less", "half", "yes"].map(|name| second[name].to_string());
        assert_eq!(numbers, ["7", "-7", "0.5", "true"]);
        assert!(second.get("not").is_none());
    }
}
