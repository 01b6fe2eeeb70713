//! One connection to the app, and one request with its answer over it: HTTP/1.1 (RFC 9112), as much of it as takes to send
//! a POST, to learn the status and to know whether the connection can be used again. There is no task beside the caller's:
//! who drops the exchange closes the connection.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::unconstrained,
};

use super::answer::{Body, Head, Malformed};

/// Most bytes of the head of an answer.
const ANSWER_HEAD_BYTES_MAX: usize = 64 << 10;

/// Most bytes of an answer's body that are read (and dropped). After more the connection is closed; the status counts.
const ANSWER_BODY_BYTES_MAX: usize = 64 << 10;

/// Bytes there is room for before anything is read.
const READ_BYTES: usize = 2 << 10;

/// What bytes go over: TCP, TLS or a Unix socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection without a request on it.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// Whether a write that fails has written nothing. Under TLS it may have.
    plain: bool,
    /// What arrived and was not used yet stands in front.
    buffer: Vec<u8>,
    filled: usize,
}

/// A request as it goes out: its head, its body. The one may hold the other, if that is short.
pub(super) type Pieces<'a> = [&'a [u8]; 2];

/// What the app said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// The value of `Retry-After`, if there is one.
    pub retry_after: Option<String>,
    /// Whether the connection can take another request.
    pub reusable: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not a byte of the request was written.
    Unsent,
    /// The connection ended, or what came was not HTTP, after bytes were sent.
    Broken,
}

/// A request on its way out.
struct Sending<'a> {
    /// What is not written yet.
    pieces: Pieces<'a>,
    begun: bool,
    /// Flushed, or the app takes no more: what counts is whether it answers.
    over: bool,
}

// === impl Connection ===

impl Connection {
    /// `plain` tells that it is not encrypted.
    pub(super) fn new(stream: Box<dyn Stream>, plain: bool) -> Self {
        Self { stream, plain, buffer: Vec::new(), filled: 0 }
    }

    /// Whether the app has neither closed the connection nor said anything since its last answer.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte);
        // A task that has had its share of the runtime's time would be told to wait, whatever is there.
        let asked = unconstrained(poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut read)));
        pin!(asked).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends a request and hears the answer out, to the end of its body. The app may answer before it has read the request:
    /// that counts, but ends the connection.
    ///
    /// # Errors
    ///
    /// By what the app may have seen: [`Fault`].
    pub(super) async fn exchange(&mut self, request: Pieces<'_>) -> Result<Answer, Fault> {
        let mut sending = Sending { pieces: request, begun: false, over: false };
        let Head { status, retry_after, mut body, keeps } = loop {
            match Head::parse(&self.buffer[..self.filled])? {
                Some((head, length)) => {
                    self.consume(length);
                    // 1xx: the answer is still to come.
                    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                        break head;
                    }
                }
                None if self.filled >= ANSWER_HEAD_BYTES_MAX => return Err(Fault::Broken),
                None if self.advance(&mut sending).await? == 0 => return Err(Fault::Broken),
                None => {}
            }
        };
        let mut left = ANSWER_BODY_BYTES_MAX;
        let whole = loop {
            let (used, ended) = body.take(&self.buffer[..self.filled])?;
            self.consume(used);
            match left.checked_sub(used) {
                _ if ended => break true,
                Some(rest) => left = rest,
                None => break false,
            }
            match self.advance(&mut sending).await? {
                0 if body == Body::Close => break false,
                0 => return Err(Fault::Broken),
                _ => {}
            }
        };
        // What follows an answer that has ended is nothing that was asked for.
        let reusable = whole && keeps && self.filled == 0 && sending.is_done();
        if self.buffer.len() > 2 * READ_BYTES {
            self.buffer = Vec::new();
        }
        Ok(Answer { status, retry_after, reusable })
    }

    /// Sends what can be sent until something was read: how many bytes, 0 at the end of the connection.
    async fn advance(&mut self, sending: &mut Sending<'_>) -> Result<usize, Fault> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(unsent)) = sending.poll(&mut self.stream, cx) {
                return Poll::Ready(Err(if self.plain { unsent } else { Fault::Broken }));
            }
            self.poll_read(cx).map_err(|_| Fault::Broken)
        })
        .await
    }

    /// Reads behind what is there.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.len() == self.filled {
            self.buffer.resize((2 * self.filled).max(READ_BYTES), 0);
        }
        let mut read = ReadBuf::new(&mut self.buffer[self.filled..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        let bytes = read.filled().len();
        self.filled += bytes;
        Poll::Ready(Ok(bytes))
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }
}

// === impl Sending ===

impl Sending<'_> {
    /// Writes as much as can be.
    ///
    /// # Errors
    ///
    /// [`Fault::Unsent`]: not a byte could be.
    fn poll(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let mut stream = Pin::new(stream);
        while !self.over {
            if self.is_done() {
                // Whether that went well, the answer tells.
                ready!(stream.as_mut().poll_flush(cx)).unwrap_or_default();
                self.over = true;
                continue;
            }
            let written = match self.pieces {
                // The system takes one piece with less work.
                [one, []] | [[], one] => stream.as_mut().poll_write(cx, one),
                both => stream.as_mut().poll_write_vectored(cx, &both.map(IoSlice::new)),
            };
            match ready!(written) {
                Ok(mut bytes) if bytes > 0 => {
                    self.begun = true;
                    for piece in &mut self.pieces {
                        let written = bytes.min(piece.len());
                        *piece = &piece[written..];
                        bytes -= written;
                    }
                }
                Ok(_) | Err(_) if self.begun => self.over = true,
                Ok(_) | Err(_) => return Poll::Ready(Err(Fault::Unsent)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_done(&self) -> bool {
        self.pieces.iter().all(|piece| piece.is_empty())
    }
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Broken
    }
}

/// Shows nothing of what arrived.
impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("plain", &self.plain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, header::HOST};
    use http_body_util::{BodyExt, Full};
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n";
    const BODY: &[u8] = b"body";

    fn connection(room_bytes: usize) -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(room_bytes);
        (Connection::new(Box::new(ours), true), theirs)
    }

    fn answer(status: u16, reusable: bool) -> Result<Answer, Fault> {
        Ok(Answer { status: StatusCode::from_u16(status).unwrap(), retry_after: None, reusable })
    }

    /// What the answer comes to if it arrives in pieces of that size, after which the app closes the connection or waits.
    async fn exchanged(text: &str, piece_bytes: usize, closes: bool) -> Result<Answer, Fault> {
        let (mut ours, mut theirs) = connection(64 << 10);
        let app = async move {
            let mut request = vec![0; HEAD.len() + BODY.len()];
            theirs.read_exact(&mut request).await.unwrap();
            assert_eq!(request, [HEAD, BODY].concat());
            for piece in text.as_bytes().chunks(piece_bytes) {
                if theirs.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            (!closes).then_some(theirs)
        };
        tokio::join!(ours.exchange([HEAD, BODY]), app).0
    }

    #[tokio::test]
    async fn an_answer_is_heard_out_in_whatever_pieces() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", answer(200, true)),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\na: b\r\n\r\nHTTP/1.1 204 X\r\n\r\n",
                answer(204, true),
            ),
            ("HTTP/1.1 500 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", answer(500, true)),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", answer(200, false)),
            ("HTTP/1.1 101 X\r\n\r\n", answer(101, false)),
        ] {
            for piece_bytes in [1, 3, 1000] {
                assert_eq!(exchanged(text, piece_bytes, false).await, expected, "{text:?}");
            }
        }
        let more = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n";
        assert_eq!(exchanged(more, 1000, false).await, answer(200, false), "what nobody asked for");
        assert_eq!(exchanged("HTTP/1.1 200 OK\r\n\r\nuntil it closes", 4, true).await, answer(200, false));
        for cut in
            ["", "HTTP/1.1 2", "HTTP/1.1 100 X\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok"]
        {
            assert_eq!(exchanged(cut, 4, true).await, Err(Fault::Broken), "{cut:?}");
        }
    }

    #[tokio::test]
    async fn heads_and_bodies_of_answers_have_bounds() {
        let long = |bytes: usize| {
            format!("HTTP/1.1 200 OK\r\na: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(bytes))
        };
        assert_eq!(exchanged(&long(60 << 10), 4096, false).await, answer(200, true));
        assert_eq!(exchanged(&long(80 << 10), 4096, false).await, Err(Fault::Broken));
        let body =
            |bytes: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
        assert_eq!(exchanged(&body(ANSWER_BODY_BYTES_MAX), 4096, false).await, answer(200, true));
        assert_eq!(exchanged(&body(2 * ANSWER_BODY_BYTES_MAX), 4096, false).await, answer(200, false));
    }

    #[tokio::test]
    async fn an_app_may_answer_before_it_has_read() {
        let (mut ours, mut theirs) = connection(64);
        let body = vec![b'x'; 1 << 20];
        let early = "HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n";
        let app = async {
            theirs.write_all(early.as_bytes()).await.unwrap();
            theirs
        };
        let (outcome, theirs) = tokio::join!(ours.exchange([HEAD, &body]), app);
        assert_eq!(outcome, answer(413, false));
        drop(theirs);

        // And it may say so by its head, and read on.
        let (mut ours, mut theirs) = connection(64);
        let app = async {
            theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
            let mut request = vec![0; HEAD.len() + body.len()];
            theirs.read_exact(&mut request).await.unwrap();
            theirs.write_all(b"ok").await.unwrap();
            theirs
        };
        assert_eq!(tokio::join!(ours.exchange([HEAD, &body]), app).0, answer(200, true));
    }

    #[tokio::test]
    async fn a_task_that_has_worked_for_long_still_sees_that_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener.accept().await.unwrap());
        let mut ours = Connection::new(Box::new(stream), true);
        while ours.is_quiet() {
            tokio::task::yield_now().await;
        }
        // More than a task may do before others have their turn.
        for _ in 0..1000 {
            assert!(!ours.is_quiet());
        }
    }

    #[tokio::test]
    async fn what_was_not_written_is_told_from_what_may_have_been() {
        let (mut ours, theirs) = connection(64);
        assert!(ours.is_quiet());
        drop(theirs);
        assert!(!ours.is_quiet());
        assert_eq!(ours.exchange([HEAD, BODY]).await, Err(Fault::Unsent));

        let (stream, theirs) = duplex(64);
        drop(theirs);
        let mut encrypted = Connection::new(Box::new(stream), false);
        assert_eq!(encrypted.exchange([HEAD, BODY]).await, Err(Fault::Broken));

        let (mut ours, mut theirs) = connection(HEAD.len() / 2);
        let app = async {
            theirs.read_exact(&mut [0; 8]).await.unwrap();
            drop(theirs);
        };
        assert_eq!(tokio::join!(ours.exchange([HEAD, BODY]), app).0, Err(Fault::Broken));

        let (mut ours, mut theirs) = connection(64);
        theirs.write_all(b"HTTP/1.1 408 X\r\n").await.unwrap();
        assert!(!ours.is_quiet(), "it said something unasked");
    }

    /// The status, if hyper's client makes a whole answer of the same bytes.
    async fn by_hyper(text: &str) -> Option<StatusCode> {
        let (ours, mut theirs) = duplex(64 << 10);
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        let app = async {
            theirs.read_exact(&mut [0; 1]).await.unwrap();
            theirs.write_all(text.as_bytes()).await.unwrap();
            theirs.shutdown().await.unwrap();
            theirs.read_to_end(&mut Vec::new()).await.ok();
        };
        let request = Request::post("/").header(HOST, "a").body(Full::new(Bytes::from_static(BODY))).unwrap();
        let answer = async {
            let answer = sender.send_request(request).await.ok()?;
            let status = answer.status();
            answer.into_body().collect().await.ok()?;
            drop(sender);
            Some(status)
        };
        tokio::join!(answer, connection, app).0
    }

    proptest! {
        #[test]
        fn what_counts_as_an_answer_does_so_for_hyper(
            head in "HTTP/1\\.[01] (200|204|304|500|[0-9]{3})( OK)?\r\n(content-length: [0-5x]{1,2}\r\n|transfer-encoding: (chunked|gzip|chunked, gzip)\r\n|connection: close\r\n|a: b\r\n){0,3}\r\n",
            body in "(ok|2\r\nok\r\n|2;a=b\r\nok\r\n|0\r\n\r\n|0\r\nc: d\r\n\r\n|x|\r\n){0,4}",
            piece_bytes in 1usize..40,
        ) {
            let text = head + &body;
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (ours, theirs) = runtime.block_on(async {
                (exchanged(&text, piece_bytes, true).await, by_hyper(&text).await)
            });
            // Where lengths contradict a coding or each other, we are the stricter ones.
            if let Ok(answer) = ours {
                prop_assert_eq!(theirs, Some(answer.status), "{:?}", text);
            } else if !text.contains("content-length") {
                prop_assert_eq!(theirs, None, "{:?}", text);
            }
        }
    }
}
