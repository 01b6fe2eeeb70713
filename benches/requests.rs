//! Whole requests: a client, the gateway as `run` starts it, and an app, all in one thread, one request after the other.
//! `requests CASE COUNT` sends so many; `scripts/instructions` counts what that takes. Without arguments, every case is
//! timed.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark knows its texts")]
#![allow(clippy::print_stdout, reason = "a benchmark tells its numbers")]

mod payload;

use std::{env, fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use hookwarden::{app, config};
use mimalloc::MiMalloc;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const SECRET: &str = "a-secret-of-the-benchmark";

/// Name, the upstream's format, bytes of a body, what is sent.
const CASES: [(&str, &str, usize, Kind); 8] = [
    ("raw", "raw", 1 << 10, Kind::New),
    ("raw-16k", "raw", 16 << 10, Kind::New),
    ("raw-256k", "raw", 256 << 10, Kind::New),
    ("cloudevents", "cloudevents", 1 << 10, Kind::New),
    ("cloudevents-16k", "cloudevents", 16 << 10, Kind::New),
    ("cloudevents-256k", "cloudevents", 256 << 10, Kind::New),
    ("duplicate", "raw", 1 << 10, Kind::Copy),
    ("forged", "raw", 1 << 10, Kind::Forged),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Each event is new.
    New,
    /// The first event again and again.
    Copy,
    /// The signature is wrong.
    Forged,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let case = |name: &str| CASES.into_iter().find(|(known, ..)| *known == name).expect("a case");
    if let [name, count] = arguments.as_slice() {
        return measure(case(name), count.parse().expect("a number")).map(drop);
    }
    for case in CASES {
        println!("{:18} {:8.1} µs, client and app included", case.0, measure(case, 2_000)?);
    }
    Ok(())
}

/// Microseconds a request.
fn measure((_, format, bytes, kind): (&str, &str, usize, Kind), count: u32) -> io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = TcpListener::bind("127.0.0.1:0").await?;
        let config = configuration(app.local_addr()?, format)?;
        tokio::spawn(answer(app));
        let settings = config::load(Some(&config), [], &Default::default()).expect("it can be read").settings;
        let _logging = app::logging::init(&settings.log)?;
        let load = move || config::load(Some(&config), [], &Default::default());
        let running = app::start(Arc::new(load)).await.expect("it starts");
        let mut client = TcpStream::connect(running.listen).await?;
        client.set_nodelay(true)?;
        let served = tokio::spawn(running.until_signal());
        let began = Instant::now();
        for number in 0..count {
            let number = if kind == Kind::Copy { 0 } else { number };
            client.write_all(&request(number, bytes, kind)).await?;
            let status = read_message(&mut client, &mut Vec::new()).await?;
            assert_eq!(status, if kind == Kind::Forged { "401" } else { "200" });
        }
        let took = began.elapsed();
        served.abort();
        Ok(took.as_secs_f64() * 1e6 / f64::from(count))
    })
}

fn configuration(app: SocketAddr, format: &str) -> io::Result<PathBuf> {
    let path = env::temp_dir().join(format!("hookwarden-bench-{}.toml", std::process::id()));
    let text = format!(
        "server = {{ listen = '127.0.0.1:0', workers = 1 }}\nadmin.listen = '127.0.0.1:0'\nlimits.per_ip = 'unlimited'\n\
         [upstreams.app]\nurl = 'http://{app}/'\nsecret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'\nformat = '{format}'\n\
         [sources.sendauth]\nvendor = 'sendauth'\nsecret = '{SECRET}'\nupstream = 'app'\n"
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// A delivery with a body of about so many bytes.
fn request(number: u32, bytes: usize, kind: Kind) -> Vec<u8> {
    let body = payload::approval(number, bytes);
    let hash = Sha256::new().chain_update(SECRET).chain_update(&body).finalize();
    let signature = if kind == Kind::Forged { "0".repeat(64) } else { hex::encode(hash) };
    format!(
        "POST /in/sendauth HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: SendAuth/1.0\r\naccept: */*\r\ncontent-type: application/json\r\nx-sendauth-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The app: takes everything.
async fn answer(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = Vec::new();
            while read_message(&mut stream, &mut buffer).await.is_ok() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok();
            }
        });
    }
}

/// Reads a message with a `content-length`; the second word of its first line.
async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<String> {
    buffer.clear();
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end]).unwrap();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let whole = end + 4 + length.parse::<usize>().unwrap();
            if buffer.len() >= whole {
                return Ok(head.split(' ').nth(1).unwrap().to_owned());
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
