//! What is measured: the workloads, their sizes and their metrics, and who runs them.
//!
//! This file is the only place that knows the scale of a run. Every runtime is given the same
//! [`Size`], but for the few pairs where a peer cannot reach the full count in bearable time or at
//! all: those are scaled down here, and the report says to what.

use std::ffi::OsString;

use clap::Args;

use crate::statistics::Better;

/// Something that can run workloads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Runtime {
    /// `std::thread`, `std::sync` and crossbeam's channels.
    Threads,
    /// Tokio's multi-thread runtime.
    Tokio,
    /// May's stackful coroutines.
    May,
    /// Goroutines; the program is `benches/go`.
    Go,
    /// Go's own HTTP server, for the workloads of that protocol alone: `go` answers them as the others do.
    GoNetHttp,
    /// Coroutines without a scheduler: the peer for switches.
    Corosensei,
    /// A single-threaded epoll loop: the floor for servers, not a peer.
    Raw,
    /// Bine with pinned green threads, its default.
    Bine,
    /// Bine with green threads that migrate between workers.
    BineMigrate,
}

impl Runtime {
    /// Every runtime, in the order of the report.
    pub(crate) const ALL: [Self; 9] = [
        Self::Threads,
        Self::Tokio,
        Self::May,
        Self::Go,
        Self::GoNetHttp,
        Self::Corosensei,
        Self::Raw,
        Self::Bine,
        Self::BineMigrate,
    ];

    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Tokio => "tokio",
            Self::May => "may",
            Self::Go => "go",
            Self::GoNetHttp => "go-net-http",
            Self::Corosensei => "corosensei",
            Self::Raw => "raw",
            Self::Bine => "bine",
            Self::BineMigrate => "bine-migrate",
        }
    }

    /// Whether the ratios of the report may be taken against it.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Threads | Self::Tokio | Self::May | Self::Corosensei) || self.is_go()
    }

    /// Whether its program is that of `benches/go`.
    pub(crate) fn is_go(self) -> bool {
        matches!(self, Self::Go | Self::GoNetHttp)
    }

    /// In which way it has less to do in `workload` than the others, whatever the size.
    pub(crate) fn is_spared(self, workload: Workload) -> Option<&'static str> {
        let bounded = matches!(
            workload,
            Workload::Mpmc | Workload::Select | Workload::Select1 | Workload::ChannelTree
        );
        // Its producers never wait.
        (self == Self::May && bounded).then_some("channels without a bound")
    }

    /// Whether it runs `workload` at all.
    pub(crate) fn runs(self, workload: Workload) -> bool {
        if workload.is_of_coroutines() {
            return matches!(self, Self::Corosensei | Self::Bine);
        }
        match self {
            Self::Corosensei => false,
            Self::Raw => workload.service().is_some(),
            Self::GoNetHttp => workload.service() == Some(Service::Http),
            // A million OS threads.
            Self::Threads => workload != Workload::Skynet,
            _ => true,
        }
    }
}

/// What the server of a workload does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Service {
    /// It sends back what it gets.
    Echo,
    /// It answers each HTTP request with the same short text.
    Http,
}

/// A piece of work that every runtime does in the same way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Workload {
    /// A coroutine is resumed and suspends, again and again.
    Switch,
    /// Coroutines are created, run to their end and dropped, one by one on the same stack.
    Create,
    /// Many tasks yield, again and again.
    Yield,
    /// One task spawns and joins others one by one.
    SpawnJoin,
    /// One task spawns others, then joins them all.
    SpawnBatch,
    /// Two tasks send one number to and fro over two unbounded channels.
    PingPong,
    /// Many such pairs at once.
    Pairs,
    /// Some tasks lock, add one, unlock.
    Mutex,
    /// Producers and consumers share one bounded channel of 128 places.
    Mpmc,
    /// One task receives by `select!` from eight bounded channels of 128 places, with a producer for each:
    /// there is mostly something to receive.
    Select,
    /// The same with channels of one place: those who select and those who send mostly have to wait.
    Select1,
    /// A 10-ary tree of tasks, each the sum of its children's results.
    Skynet,
    /// A binary tree of tasks whose leaves compute.
    ForkJoin,
    /// A binary tree of tasks that send sums upwards, on bounded channels of 16 places.
    ChannelTree,
    /// Tasks that are spawned and then wait.
    Park,
    /// Tasks that sleep.
    Timers,
    /// Tasks that sleep for a millisecond again and again, while for a time as many others as there are
    /// workers hold those.
    Hogs,
    /// A TCP echo server with 100 connections and messages of 64 bytes.
    Echo100,
    /// The same with 1000 connections.
    Echo1000,
    /// The same with 10,000 connections, of which 100 have messages under way.
    Echo10000,
    /// The same with 10,000 connections that have all been used, and no messages any more.
    Idle10000,
    /// An HTTP/1.1 server with 64 connections that are kept alive, and one request under way on each.
    Http64,
    /// The same with 512 connections.
    Http512,
    /// The same with 64 connections and 16 requests sent at once on each, before the answers are there.
    HttpPipelined,
}

/// How much of a workload to run; a field that a workload does not use is 0.
#[derive(Args, Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Size {
    /// Tasks (pairs, leaves, connections, producers and as many consumers).
    #[arg(long)]
    pub(crate) tasks: usize,
    /// What each task does so many times; how many requests a connection sends at once, if more than one.
    #[arg(long)]
    pub(crate) rounds: usize,
    /// The shortest sleep (the longest is 3 times this), or the time that a server is under load.
    #[arg(long)]
    pub(crate) millis: u64,
}

impl Size {
    pub(crate) const fn new(tasks: usize, rounds: usize, millis: u64) -> Self {
        Self { tasks, rounds, millis }
    }

    /// The arguments that a child process reads this from.
    pub(crate) fn arguments(self) -> Vec<OsString> {
        let Self { tasks, rounds, millis } = self;
        let named = [("--tasks", tasks), ("--rounds", rounds), ("--millis", millis as usize)];
        named.iter().flat_map(|(name, value)| [name.into(), value.to_string().into()]).collect()
    }
}

/// One figure that a workload yields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Metric {
    /// Its name in the protocol between the processes and in the JSON.
    pub(crate) name: &'static str,
    /// What the report calls it, with its unit.
    pub(crate) unit: &'static str,
    /// Its good direction.
    pub(crate) better: Better,
}

const fn lower(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit, better: Better::Lower }
}

/// What a server yields: a request of HTTP is a message of echo.
const fn server_metrics(cpu: &'static str, rate: &'static str) -> [Metric; 5] {
    [
        lower("cpu_us", cpu),
        Metric { name: "rate", unit: rate, better: Better::Higher },
        lower("p50_us", "latency p50, us"),
        lower("p99_us", "latency p99, us"),
        lower("p999_us", "latency p99.9, us"),
    ]
}

impl Workload {
    /// Every workload, in the order of the report.
    pub(crate) const ALL: [Self; 24] = [
        Self::Switch,
        Self::Create,
        Self::Yield,
        Self::SpawnJoin,
        Self::SpawnBatch,
        Self::PingPong,
        Self::Pairs,
        Self::Mutex,
        Self::Mpmc,
        Self::Select,
        Self::Select1,
        Self::Skynet,
        Self::ForkJoin,
        Self::ChannelTree,
        Self::Park,
        Self::Timers,
        Self::Hogs,
        Self::Echo100,
        Self::Echo1000,
        Self::Echo10000,
        Self::Idle10000,
        Self::Http64,
        Self::Http512,
        Self::HttpPipelined,
    ];

    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Create => "create",
            Self::Yield => "yield",
            Self::SpawnJoin => "spawnjoin",
            Self::SpawnBatch => "spawnbatch",
            Self::PingPong => "pingpong",
            Self::Pairs => "pairs",
            Self::Mutex => "mutex",
            Self::Mpmc => "mpmc",
            Self::Select => "select",
            Self::Select1 => "select-1",
            Self::Skynet => "skynet",
            Self::ForkJoin => "forkjoin",
            Self::ChannelTree => "chantree",
            Self::Park => "park",
            Self::Timers => "timers",
            Self::Hogs => "hogs",
            Self::Echo100 => "echo-100",
            Self::Echo1000 => "echo-1000",
            Self::Echo10000 => "echo-10000",
            Self::Idle10000 => "idle-10000",
            Self::Http64 => "http-64",
            Self::Http512 => "http-512",
            Self::HttpPipelined => "http-pipelined",
        }
    }

    /// What its server does, if it is a server under load rather than a program of tasks.
    pub(crate) fn service(self) -> Option<Service> {
        match self {
            Self::Echo100 | Self::Echo1000 | Self::Echo10000 | Self::Idle10000 => {
                Some(Service::Echo)
            }
            Self::Http64 | Self::Http512 | Self::HttpPipelined => Some(Service::Http),
            _ => None,
        }
    }

    /// On how many of the connections of a server something is under way.
    pub(crate) fn active(self, size: Size) -> usize {
        match self {
            Self::Echo10000 => size.tasks / 100,
            Self::Idle10000 => 0,
            _ => size.tasks,
        }
    }

    /// Whether it is about coroutines, which no scheduler runs.
    pub(crate) fn is_of_coroutines(self) -> bool {
        matches!(self, Self::Switch | Self::Create)
    }

    /// What it yields; the first figure is the headline.
    pub(crate) fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Switch => const { &[lower("ns", "ns to and fro")] },
            Self::Create => const { &[lower("ns", "ns each")] },
            Self::Yield => const { &[lower("ns", "ns a yield")] },
            Self::SpawnJoin => const { &[lower("ns", "ns each")] },
            Self::SpawnBatch => const { &[lower("ns", "ns each")] },
            Self::PingPong | Self::Pairs => const { &[lower("ns", "ns a round trip")] },
            Self::Mutex => const { &[lower("ns", "ns a lock")] },
            Self::Mpmc | Self::Select | Self::Select1 | Self::ChannelTree => {
                const { &[lower("ns", "ns a message")] }
            }
            Self::Skynet | Self::ForkJoin => const { &[lower("ms", "ms")] },
            Self::Park => {
                const { &[lower("ns", "ns to spawn and park"), lower("bytes", "bytes a task")] }
            }
            Self::Timers => {
                const {
                    &[
                        lower("cpu_ns", "CPU ns each"),
                        lower("late_mean_ms", "mean lateness, ms"),
                        lower("late_max_ms", "max lateness, ms"),
                    ]
                }
            }
            Self::Hogs => {
                const {
                    &[
                        lower("late_max_ms", "max lateness, ms"),
                        lower("late_p50_us", "lateness p50, us"),
                        lower("late_p99_us", "lateness p99, us"),
                        lower("late_p999_us", "lateness p99.9, us"),
                    ]
                }
            }
            Self::Idle10000 => const { &[lower("cpu_us", "server CPU, us a second")] },
            Self::Echo100 | Self::Echo1000 | Self::Echo10000 => {
                const { &server_metrics("server CPU, us a message", "messages/s") }
            }
            Self::Http64 | Self::Http512 | Self::HttpPipelined => {
                const { &server_metrics("server CPU, us a request", "requests/s") }
            }
        }
    }

    /// What it does at `size`, for the heading of the report.
    pub(crate) fn describe(self, size: Size) -> String {
        let (tasks, rounds) = (count(size.tasks), count(size.rounds));
        let (shortest, longest) = (size.millis, 3 * size.millis);
        match self {
            Self::Switch => format!("a coroutine is resumed and suspends, {rounds} times"),
            Self::Create => {
                format!("{rounds} coroutines, each created, run to its end, dropped, on one stack")
            }
            Self::Yield => format!("{tasks} tasks yield {rounds} times each"),
            Self::SpawnJoin => format!("one task spawns and joins {tasks} others one by one"),
            Self::SpawnBatch if size.rounds == 1 => {
                format!("one task spawns {tasks} others, then joins them all")
            }
            Self::SpawnBatch => {
                format!("one task spawns {tasks} others, then joins them all, {rounds} times")
            }
            Self::PingPong => format!("two tasks, two unbounded channels, {rounds} round trips"),
            Self::Pairs => format!("{tasks} such pairs at once, {rounds} round trips each"),
            Self::Mutex => format!("{tasks} tasks lock, add 1, unlock {rounds} times each"),
            Self::Mpmc => {
                format!("{tasks} producers, {tasks} consumers, bounded(128), {rounds} sends each")
            }
            Self::Select | Self::Select1 => {
                let places = if self == Self::Select { 128 } else { 1 };
                format!(
                    "one task receives by select! from {tasks} channels, bounded({places}), with a producer \
                     each, {rounds} sends each"
                )
            }
            Self::Skynet => format!("10-ary tree of tasks, {tasks} leaves, sum by join"),
            Self::ForkJoin => {
                format!("binary tree of tasks, {tasks} leaves, each computes {rounds} steps")
            }
            Self::ChannelTree => format!(
                "binary tree of tasks, {tasks} leaves, each sends {rounds} numbers, bounded(16)"
            ),
            Self::Park => format!("{tasks} parked tasks"),
            Self::Timers => format!("{tasks} tasks sleep once, {shortest} to {longest} ms"),
            Self::Hogs => format!(
                "{tasks} tasks sleep 1 ms, {rounds} times; meanwhile every worker is held for \
                 {shortest} ms, one by computing, the others by a system call"
            ),
            Self::Echo100 | Self::Echo1000 => {
                format!("TCP echo, {tasks} connections x 64 B, {shortest} ms of load")
            }
            Self::Echo10000 => {
                let active = self.active(size);
                format!(
                    "TCP echo, {tasks} connections x 64 B, {active} active, {shortest} ms of load"
                )
            }
            Self::Idle10000 => format!("TCP echo, {tasks} connections, all idle for {shortest} ms"),
            Self::Http64 | Self::Http512 | Self::HttpPipelined => {
                let under_way =
                    if size.rounds > 1 { format!(" x {rounds} requests") } else { "".into() };
                format!("HTTP plaintext, {tasks} connections{under_way}, {shortest} ms of load")
            }
        }
    }

    /// How much of it is run: all of it, or a tenth and less with `quick`.
    pub(crate) fn size(self, quick: bool) -> Size {
        let (full, small) = match self {
            Self::Switch => (Size::new(1, 5_000_000, 0), Size::new(1, 500_000, 0)),
            Self::Create => (Size::new(1, 2_000_000, 0), Size::new(1, 200_000, 0)),
            Self::Yield => (Size::new(1_000, 2_000, 0), Size::new(1_000, 200, 0)),
            Self::SpawnJoin => (Size::new(500_000, 1, 0), Size::new(50_000, 1, 0)),
            Self::SpawnBatch => (Size::new(100_000, 1, 0), Size::new(20_000, 1, 0)),
            Self::PingPong => (Size::new(2, 500_000, 0), Size::new(2, 50_000, 0)),
            Self::Pairs => (Size::new(1_000, 1_000, 0), Size::new(1_000, 100, 0)),
            Self::Mutex => (Size::new(64, 20_000, 0), Size::new(64, 2_000, 0)),
            Self::Mpmc => (Size::new(64, 20_000, 0), Size::new(64, 2_000, 0)),
            // As many as `select!` has arms.
            Self::Select | Self::Select1 => (Size::new(8, 50_000, 0), Size::new(8, 5_000, 0)),
            Self::Skynet => (Size::new(1_000_000, 1, 0), Size::new(100_000, 1, 0)),
            Self::ForkJoin => (Size::new(4_096, 50_000, 0), Size::new(1_024, 20_000, 0)),
            Self::ChannelTree => (Size::new(256, 2_000, 0), Size::new(256, 200, 0)),
            Self::Park => (Size::new(1_000_000, 1, 0), Size::new(100_000, 1, 0)),
            Self::Timers => (Size::new(1_000_000, 1, 1_000), Size::new(100_000, 1, 250)),
            Self::Hogs => (Size::new(100, 1_000, 500), Size::new(100, 400, 200)),
            Self::Echo100 => (Size::new(100, 0, 4_000), Size::new(100, 0, 1_000)),
            Self::Echo1000 => (Size::new(1_000, 0, 4_000), Size::new(1_000, 0, 1_000)),
            Self::Echo10000 => (Size::new(10_000, 0, 4_000), Size::new(10_000, 0, 1_000)),
            Self::Idle10000 => (Size::new(10_000, 0, 4_000), Size::new(10_000, 0, 1_000)),
            Self::Http64 => (Size::new(64, 0, 4_000), Size::new(64, 0, 1_000)),
            Self::Http512 => (Size::new(512, 0, 4_000), Size::new(512, 0, 1_000)),
            Self::HttpPipelined => (Size::new(64, 16, 4_000), Size::new(64, 16, 1_000)),
        };
        if quick { small } else { full }
    }

    /// The size at which `runtime` runs it, which is less where the peer would take minutes for
    /// the full count (thread creation) or cannot hold it (see the caps below).
    pub(crate) fn size_for(self, runtime: Runtime, quick: bool) -> Size {
        let mut size = self.size(quick);
        let tasks = match (runtime, self) {
            (Runtime::Threads, Self::SpawnJoin | Self::SpawnBatch) => 20_000,
            (Runtime::May, Self::SpawnJoin) => 50_000,
            // OS threads: each has a kernel stack, and a limit on their number is usual.
            (Runtime::Threads, Self::Park | Self::Timers) => 10_000,
            // May aborts past about 32,000 live coroutines, since each guard page costs two
            // mappings. Where a smaller count says the same, it is given the smaller count;
            // where it does not (spawnbatch, skynet), its failure is what the report shows.
            (Runtime::May, Self::Park | Self::Timers) => 20_000,
            _ => size.tasks,
        };
        size.tasks = tasks.min(size.tasks);
        if (runtime, self) == (Runtime::Threads, Self::PingPong) {
            size.rounds = size.rounds.min(20_000);
        }
        size
    }
}

/// Computes for `steps` steps, and returns 1: a leaf of [`Workload::ForkJoin`].
///
/// # Panics
///
/// Never: Marsaglia's xorshift does not come to 0. The compiler does not know that, and has to compute it.
pub(crate) fn burn(seed: u64, steps: usize) -> u64 {
    let mut number = seed + 1;
    for _ in 0..steps {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
    }
    assert_ne!(number, 0);
    1
}

/// `1000000` as `1M`, `20000` as `20k`: exact, or left as it is.
pub(crate) fn count(number: usize) -> String {
    match number {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n >= 1_000 && n % 1_000 == 0 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Workload::ALL.iter().map(|w| w.name()).collect();
        names.extend(Runtime::ALL.iter().map(|r| r.name()));
        let total = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), total);
    }

    #[test]
    fn no_runtime_is_given_more_than_the_nominal_size() {
        for workload in Workload::ALL {
            for runtime in Runtime::ALL {
                for quick in [false, true] {
                    let (nominal, given) =
                        (workload.size(quick), workload.size_for(runtime, quick));
                    assert!(given.tasks <= nominal.tasks && given.rounds <= nominal.rounds);
                }
            }
        }
    }

    #[test]
    fn bine_is_never_scaled_down() {
        for workload in Workload::ALL {
            assert_eq!(workload.size_for(Runtime::Bine, false), workload.size(false));
            assert_eq!(workload.size_for(Runtime::BineMigrate, false), workload.size(false));
        }
    }

    #[test]
    fn counts_are_short_and_exact() {
        assert_eq!(count(64), "64");
        assert_eq!(count(20_000), "20k");
        assert_eq!(count(1_000_000), "1M");
        assert_eq!(count(1_500), "1500");
    }
}
