//! The server with clients on green threads, and some that do not behave.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;

use bine::net::{SocketAddr, TcpStream};
use bine::thread;

use super::*;

/// Pinned and migrating, with few and many workers.
const RUNTIMES: [(usize, bool); 4] = [(1, false), (2, true), (8, false), (8, true)];

/// Runs `f` as a green thread beside a server, and stops the server.
fn with_server<F>(arguments: &[&str], f: F)
where
    F: Fn(&Arc<Server>, SocketAddr) + Clone + Send + 'static,
{
    let options =
        Options::parse_from([&["chat_server", "--quiet", "--grace", "120"], arguments].concat());
    for (workers, migrate) in RUNTIMES {
        let (options, f) = (options.clone(), f.clone());
        let runtime = RuntimeOptions { workers: NonZeroUsize::new(workers), migrate };
        runtime.build().unwrap().run(move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::new(Limits::of(&options), options.max_clients);
            let accepting = server.start(listener);
            f(&server, address);
            assert_eq!(server.stop(accepting).unwrap(), 0);
        });
    }
}

struct Guest {
    stream: BufReader<TcpStream>,
}

impl Guest {
    /// Comes in under a name, and is in the lobby.
    fn new(address: SocketAddr, nick: &str) -> Self {
        let mut guest = Self { stream: BufReader::new(TcpStream::connect(address).unwrap()) };
        guest.send(&format!("/nick {nick}"));
        guest.hear_until(&format!("is now {nick}"));
        guest
    }

    fn send(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line; empty at the end.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line
    }

    /// Skips lines up to one that ends so, and returns it.
    fn hear_until(&mut self, end: &str) -> String {
        loop {
            let line = self.hear();
            assert!(!line.is_empty(), "the server has closed before it said: {end}");
            if line.trim_end().ends_with(end) {
                return line;
            }
        }
    }

    /// Everything up to the end.
    fn rest(mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).unwrap();
        rest
    }
}

#[test]
fn people_meet() {
    with_server(&[], |_, address| {
        let (mut ann, mut bob) = (Guest::new(address, "ann"), Guest::new(address, "bob"));
        ann.hear_until("is now bob");
        ann.send("hello");
        assert_eq!(bob.hear(), "<ann> hello\n");
        assert_eq!(ann.hear(), "<ann> hello\n");
        bob.send("/nick ann");
        assert_eq!(bob.hear(), "* there is a ann already\n");
        bob.send("/nick b o b");
        bob.hear_until("letters, digits, - and _");
        bob.send("/join garden");
        assert_eq!(bob.hear(), "* bob came to garden\n");
        assert_eq!(ann.hear(), "* bob went to garden\n");
        ann.send("/rooms");
        assert_eq!((ann.hear(), ann.hear()), ("* garden: 1\n".into(), "* lobby: 1\n".into()));
        // Nobody hears what is said elsewhere.
        ann.send("alone?");
        assert_eq!(ann.hear(), "<ann> alone?\n");
        ann.send("/join garden");
        assert_eq!(bob.hear(), "* ann came to garden\n");
        ann.hear();
        bob.send("/who");
        assert_eq!(bob.hear(), "* ann bob\n");
        bob.send("/leave");
        assert_eq!(bob.hear(), "* bob came to lobby\n");
        assert_eq!(ann.hear(), "* bob went to lobby\n");
        ann.send("/frobnicate");
        assert_eq!(ann.hear(), "* there is no /frobnicate; /help tells what there is\n");
        ann.send("/panic");
        assert_eq!(ann.hear(), "* there is no /panic; /help tells what there is\n");
        bob.send("/join garden");
        ann.hear_until("bob came to garden");
        ann.send("/quit");
        assert_eq!(ann.rest(), "* good-bye\n");
        bob.hear_until("ann left: good-bye");
    });
}

/// All who are in a room hear everything, in the same order.
#[test]
fn many_people_talk_in_many_rooms() {
    const ROOMS: usize = 8;
    const MEMBERS: usize = 12;
    const LINES: usize = 20;
    // The queue is short, and the patience long: whoever talks has to wait for those who listen.
    with_server(&["--queue", "2", "--patience", "120000"], |_, address| {
        let heard: Vec<Vec<String>> = thread::scope(|scope| {
            let guests: Vec<_> = (0..ROOMS * MEMBERS)
                .map(|number| {
                    let room = format!("/join room{}", number % ROOMS);
                    let mut guest = Guest::new(address, &format!("n{number}"));
                    guest.send(&room);
                    guest.hear_until(&format!("n{number} came to room{}", number % ROOMS));
                    guest
                })
                .collect();
            // Everybody is there, and so hears all that is said from now on.
            let listening: Vec<_> = guests
                .into_iter()
                .enumerate()
                .map(|(number, mut guest)| {
                    let mut talker = guest.stream.get_ref().try_clone().unwrap();
                    scope.spawn(move || {
                        for line in 0..LINES {
                            talker.write_all(format!("{line} of {number}\n").as_bytes()).unwrap();
                        }
                    });
                    scope.spawn(move || {
                        let mut heard = Vec::new();
                        while heard.len() < MEMBERS * LINES {
                            let line = guest.hear();
                            assert!(!line.is_empty(), "{number} was dropped");
                            heard.extend(line.starts_with('<').then_some(line));
                        }
                        heard
                    })
                })
                .collect();
            listening.into_iter().map(|listener| listener.join().unwrap()).collect()
        });
        for (number, lines) in heard.iter().enumerate() {
            assert_eq!(*lines, heard[number % ROOMS], "{number} has heard it otherwise");
            for member in (number % ROOMS..ROOMS * MEMBERS).step_by(ROOMS) {
                let said = lines.iter().filter(|line| line.starts_with(&format!("<n{member}> ")));
                let expected = (0..LINES).map(|line| format!("<n{member}> {line} of {member}\n"));
                assert!(said.eq(expected.collect::<Vec<_>>().iter()), "a line of {member} is lost");
            }
        }
    });
}

#[test]
fn who_does_not_listen_is_dropped_and_nobody_else() {
    with_server(&["--queue", "4", "--patience", "0"], |_, address| {
        let mut slow = Guest::new(address, "slow");
        let mut ann = Guest::new(address, "ann");
        let line = "x".repeat(1_000);
        // Each line is heard before the next, so that no more than one is ever in the queue of the talker.
        for count in 0.. {
            assert!(count < 100_000, "100 MB fit into no buffer");
            ann.send(&line);
            let heard = ann.hear();
            if heard == "* slow left: too slow\n" {
                break;
            }
            assert_eq!(heard, format!("<ann> {line}\n"));
        }
        ann.send("/who");
        ann.hear_until("* ann");
        let mut all = Vec::new();
        let ended = slow.stream.read_to_end(&mut all);
        assert!(ended.is_ok() || ended.unwrap_err().kind() == ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_line_without_end_ends_the_visit() {
    with_server(&["--max-line", "100"], |_, address| {
        let mut ann = Guest::new(address, "ann");
        let mut endless = Guest::new(address, "endless");
        let mut talker = endless.stream.get_ref().try_clone().unwrap();
        let talking = bine::spawn(move || while talker.write_all(&[b'x'; 4_096]).is_ok() {});
        ann.hear_until("endless left: a line was too long");
        talking.join().unwrap();
        // What it was told may have been overtaken by the reset: it never stopped talking.
        let _ = endless.stream.read_to_end(&mut Vec::new());

        // One who stops is told.
        let mut long = Guest::new(address, "long");
        long.send(&"x".repeat(200));
        assert_eq!(long.rest(), "* a line was too long\n");
    });
}

#[test]
fn half_a_connection_is_enough_to_be_answered() {
    with_server(&[], |_, address| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"/nick nc\r\nhello\n/who").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert!(heard.ends_with("is now nc\n<nc> hello\n* nc\n* good-bye\n"), "{heard}");
    });
}

#[test]
fn who_is_silent_is_dismissed() {
    with_server(&["--idle-timeout", "1"], |_, address| {
        let stream = TcpStream::connect(address).unwrap();
        let heard = Guest { stream: BufReader::new(stream) }.rest();
        assert!(heard.ends_with("* silent for too long\n"), "{heard}");
    });
}

#[test]
fn a_panic_is_one_clients_alone() {
    with_server(&["--allow-panic"], |_, address| {
        let mut ann = Guest::new(address, "ann");
        let mut bob = Guest::new(address, "bob");
        bob.send("/panic");
        assert_eq!(bob.rest(), "* an error in the server\n");
        ann.hear_until("bob left: an error in the server");
        ann.send("still here");
        assert_eq!(ann.hear(), "<ann> still here\n");
    });
}

#[test]
fn everybody_is_told_of_the_end() {
    for (workers, migrate) in RUNTIMES {
        let options = Options::parse_from(["chat_server", "--quiet", "--grace", "120"]);
        let runtime = RuntimeOptions { workers: NonZeroUsize::new(workers), migrate };
        runtime.build().unwrap().run(move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::new(Limits::of(&options), options.max_clients);
            let accepting = server.start(listener);
            let guests: Vec<_> = (0..50).map(|n| Guest::new(address, &format!("n{n}"))).collect();
            let stopping = bine::spawn(move || server.stop(accepting).unwrap());
            for guest in guests {
                let rest = guest.rest();
                assert!(rest.ends_with("* the server stops, good-bye\n"), "{rest}");
            }
            assert_eq!(stopping.join().unwrap(), 0);
            assert!(TcpStream::connect(address).is_err(), "it still listens");
        });
    }
}
