//! What a gateway under attack is held to: whoever is good is served meanwhile, and memory, CPU time and file descriptors
//! stay within bounds, as the system counts them.

use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    panic::resume_unwind,
    process::{Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::TcpSocket,
    runtime::{Builder, Runtime},
};

use crate::harness::*;

/// No line for each request, but for the start and what is wrong.
pub const QUIET: &str = "log.level = 'warn,hookwarden::app=info'";

/// A configuration to lay siege to; the app is the siege's own.
pub fn quiet() -> Config<'static> {
    Config { top: QUIET, ..Config::to((Ipv4Addr::UNSPECIFIED, 0).into()) }
}

/// Where attacks come from: another client than the vendors, who are 127.0.0.1.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// Between two good deliveries: a vendor's pace, within any budget, that leaves the machine to the attack.
const PACE: Duration = Duration::from_millis(5);

/// Deliveries until everything that is set up once is there.
const WARM_UP: usize = 20;

// === what the system says of a process ===

impl Gateway {
    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("it runs")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix(" kB"));
        value.expect("a size").trim_start_matches(':').trim().parse().expect("a number")
    }

    /// Memory in RAM.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS")
    }

    /// Most memory in RAM, since the start or since it was forgotten.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM")
    }

    fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("the peak is forgotten");
    }

    /// CPU time so far, in programs and in the system: fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Open file descriptors.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }
}

/// Lets the gateway have no more than so many file descriptors.
pub fn with_descriptors(count: usize) -> impl FnOnce(&mut Command) {
    move |command| {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("ulimit -n {count} && exec \"$0\" \"$@\""));
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdout(Stdio::null()).stderr(Stdio::piped());
        *command = shell;
    }
}

// === clients ===

/// Connects from an address of the loopback network, all of which is this machine: each is a client of its own.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    connect_with(from, to, None)
}

/// Connects from an address, with room for so many bytes that are here and not read yet.
pub fn connect_with(from: Ipv4Addr, to: SocketAddr, received_bytes: Option<u32>) -> TcpStream {
    // The standard library can't choose an address to connect from.
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_io().build().expect("a runtime"));
    let connected = RUNTIME.block_on(async {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = received_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind((from, 0).into())?;
        socket.connect(to).await?.into_std()
    });
    let stream = connected.expect("connected");
    stream.set_nonblocking(false).expect("a mode");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

// === a siege ===

/// A gateway and the app behind it, for an attack and the good deliveries beside it.
pub struct Siege {
    pub gateway: Gateway,
    pub sink: Sink,
    delivered: AtomicU32,
}

/// What an attack took.
pub struct Toll {
    before_kib: u64,
    peak_kib: u64,
    after_kib: u64,
    cpu: Duration,
    /// Good deliveries meanwhile.
    pub delivered: u32,
}

impl Siege {
    /// A gateway that has served before, so that what is allocated once is allocated.
    pub fn of(config: &Config<'_>) -> Self {
        Self::with(config, |_| {})
    }

    /// One that is started in another way.
    pub fn with(config: &Config<'_>, change: impl FnOnce(&mut Command)) -> Self {
        let sink = Sink::start();
        let gateway = Gateway::start_with(&Config { upstream: sink.address, ..*config }.text(), change);
        let siege = Self { gateway, sink, delivered: AtomicU32::new(0) };
        (0..WARM_UP).for_each(|_| siege.deliver());
        siege
    }

    /// The body of one more good delivery, which must arrive.
    pub fn good(&self) -> Vec<u8> {
        let number = self.delivered.fetch_add(1, Ordering::Relaxed);
        approval(&format!("good-{number}"))
    }

    /// One more good delivery, that must be taken.
    #[track_caller]
    pub fn deliver(&self) {
        send(&self.gateway, "sendauth", &self.good()).id();
    }

    /// Attacks, and delivers all the while, and once more when it is over.
    pub fn under<T: Send>(&self, attack: impl FnOnce() -> T + Send) -> (T, Toll) {
        let measured = self.measured(|| {
            thread::scope(|scope| {
                let attack = scope.spawn(attack);
                while !attack.is_finished() {
                    self.deliver();
                    thread::sleep(PACE);
                }
                attack.join().unwrap_or_else(|panic| resume_unwind(panic))
            })
        });
        self.deliver();
        let delivered = usize::try_from(self.delivered.load(Ordering::Relaxed)).expect("few");
        assert_eq!(self.sink.count(), delivered, "good events, and no others");
        measured
    }

    /// What an attack takes, whatever becomes of others meanwhile.
    pub fn measured<T>(&self, attack: impl FnOnce() -> T) -> (T, Toll) {
        let (before_kib, cpu) = (self.gateway.resident_kib(), self.gateway.cpu());
        let before = self.delivered.load(Ordering::Relaxed);
        self.gateway.forget_peak();
        let outcome = attack();
        let toll = Toll {
            before_kib,
            peak_kib: self.gateway.peak_kib(),
            after_kib: self.gateway.resident_kib(),
            cpu: self.gateway.cpu() - cpu,
            delivered: self.delivered.load(Ordering::Relaxed) - before,
        };
        (outcome, toll)
    }
}

impl Toll {
    /// Checks the memory at its peak.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "shown if the test fails")]
    pub fn grew_at_most(&self, what: &str, growth_kib: u64) {
        println!("{what}: {self}");
        assert!(self.peak_kib <= self.before_kib + growth_kib, "{what}: {self}, at most {growth_kib} more");
    }

    /// Checks the CPU time, of good deliveries and all.
    #[track_caller]
    pub fn took_at_most(&self, what: &str, cpu: Duration) {
        assert!(self.cpu <= cpu, "{what}: {self}, at most {cpu:?}");
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before_kib, peak_kib, after_kib, cpu, delivered } = self;
        write!(
            f,
            "KiB before {before_kib}, peak {peak_kib}, after {after_kib}; CPU {cpu:?}; {delivered} delivered"
        )
    }
}
