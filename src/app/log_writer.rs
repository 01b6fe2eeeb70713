//! Log lines on their way out: gathered in memory, written by a thread of their own. A line costs a copy, many lines one
//! system call, and a reader that stops reading stops no request: what it leaves lying is dropped, and counted.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait to be written at most; lines beyond are dropped.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// How long lines are gathered after the first one.
const GATHER: Duration = Duration::from_millis(10);

/// How long the end waits for the last lines to be taken.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes whole lines.
#[derive(Debug)]
pub(super) struct LogWriter(Arc<Shared>);

/// Writes what is waiting when dropped, as far as somebody reads it.
#[derive(Debug)]
pub struct LogGuard(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    dropped_lines: u64,
    /// No more lines will come.
    closed: bool,
    /// The thread has written all of them.
    ended: bool,
}

/// Begins a thread that writes to `out`.
pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(LogWriter, LogGuard)> {
    let shared = Arc::new(Shared::default());
    let writing = Arc::clone(&shared);
    thread::Builder::new().name("log".to_owned()).spawn(move || writing.write_to(out))?;
    Ok((LogWriter(Arc::clone(&shared)), LogGuard(shared)))
}

impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.waiting.len() + line.len() > WAITING_BYTES_MAX {
            state.dropped_lines += 1;
            return Ok(line.len());
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if first {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
        let state = self.0.lock();
        drop(self.0.changed.wait_timeout_while(state, LAST_LINES_TIMEOUT, |state| !state.ended));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
            let state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let open = |state: &mut State| !state.closed;
            let gathered = self.changed.wait_timeout_while(state, GATHER, open);
            let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut lines, &mut state.waiting);
            let dropped = mem::take(&mut state.dropped_lines);
            let last = state.closed;
            drop(state);
            if dropped > 0 {
                let note = format!("{{\"level\":\"WARN\",\"message\":\"log lines dropped: {dropped}\"}}\n");
                lines.extend_from_slice(note.as_bytes());
            }
            // There is nowhere to tell that the log cannot be written.
            drop(out.write_all(&lines));
            lines.clear();
            if last {
                break;
            }
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing until it is let.
    struct Stubborn(Arc<Mutex<Vec<u8>>>);

    impl Write for Stubborn {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_lines_are_written_in_order_before_the_end() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let (writer, guard) = start(Stubborn(Arc::clone(&out))).unwrap();
        let lines: Vec<String> = (0..10_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| (&writer).write_all(line.as_bytes()).unwrap());
        drop(guard);
        assert_eq!(String::from_utf8(out.lock().unwrap().clone()).unwrap(), lines.concat());
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_nothing_else() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let blocked = out.lock().unwrap();
        let (writer, guard) = start(Stubborn(Arc::clone(&out))).unwrap();
        let line = [b'x'; 1024];
        for _ in 0..3 * WAITING_BYTES_MAX / line.len() {
            (&writer).write_all(&line).unwrap();
        }
        assert!(writer.0.lock().waiting.len() <= WAITING_BYTES_MAX);
        drop(blocked);
        drop(guard);
        assert!(String::from_utf8_lossy(&out.lock().unwrap()).contains("log lines dropped: "));
    }
}
