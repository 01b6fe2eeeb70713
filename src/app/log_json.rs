//! A log line as JSON: time, level, message and fields, target. Written as it is visited, without a map in between.

use std::fmt::{self, Debug, Write};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{clock::Clock, identity::time};

/// Room for a line; most of a request's fit.
const LINE_BYTES: usize = 512;

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
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Line(String::with_capacity(LINE_BYTES));
        line.raw("{\"timestamp\":\"");
        line.raw(&time::millis(self.clock.now()));
        line.raw("\",\"level\":\"");
        line.raw(event.metadata().level().as_str());
        line.raw("\"");
        event.record(&mut line);
        line.raw(",\"target\":\"");
        line.escaped(event.metadata().target());
        line.raw("\"}\n");
        out.write_str(&line.0)
    }
}

/// A line so far. Writing into a String does not fail.
struct Line(String);

impl Line {
    fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// Begins a member. Names are our own: without `r#` they need no escaping.
    fn name(&mut self, field: &Field) {
        let name = field.name();
        for piece in [",\"", name.strip_prefix("r#").unwrap_or(name), "\":"] {
            self.raw(piece);
        }
    }

    fn quoted(&mut self, field: &Field, write: impl FnOnce(&mut Self)) {
        self.name(field);
        self.raw("\"");
        write(self);
        self.raw("\"");
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        self.quoted(field, |line| line.write_fmt(text).unwrap_or_default());
    }

    fn integer(&mut self, field: &Field, value: impl itoa::Integer) {
        self.name(field);
        self.raw(itoa::Buffer::new().format(value));
    }

    fn plain(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.name(field);
        self.0.write_fmt(value).unwrap_or_default();
    }

    /// Adds what stands in a JSON string, escaped as that needs it (RFC 8259 §7), and the line ends of Unicode, so that a
    /// line is one.
    fn escaped(&mut self, text: &str) {
        // Nearly all texts need nothing.
        let plain = |all, byte| all & matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
        if text.bytes().fold(true, plain) {
            return self.raw(text);
        }
        let special =
            |c: char| matches!(c, '"' | '\\' | '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}');
        let mut rest = text;
        while let Some(at) = rest.find(special) {
            let (plain, after) = rest.split_at(at);
            self.raw(plain);
            let mut characters = after.chars();
            match characters.next() {
                Some('"') => self.raw("\\\""),
                Some('\\') => self.raw("\\\\"),
                Some('\n') => self.raw("\\n"),
                Some('\r') => self.raw("\\r"),
                Some('\t') => self.raw("\\t"),
                Some(other) => write!(self.0, "\\u{:04x}", u32::from(other)).unwrap_or_default(),
                None => {}
            }
            rest = characters.as_str();
        }
        self.raw(rest);
    }
}

/// What is formatted stands in a string.
impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.escaped(text);
        Ok(())
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.quoted(field, |line| line.escaped(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.integer(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.integer(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        if value.is_finite() {
            self.plain(field, format_args!("{value}"));
        }
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
