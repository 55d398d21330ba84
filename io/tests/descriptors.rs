//! Descriptors: none is lost, and numbers that are used again do not mix up events. Alone in its
//! process, and one test at a time, since it counts them.

mod bound;
mod descriptor_table;

use std::io::{ErrorKind, Read, Write};
use std::sync::Mutex;
use std::thread;

use bine_io::net::{TcpListener, TcpStream};
use bound::{bounded, pair};
use descriptor_table::open_descriptors;

static ALONE: Mutex<()> = Mutex::new(());

/// Makes a pair of which the server has been registered, and waited for.
fn registered_pair() -> (TcpStream, TcpStream) {
    let (client, mut server) = pair();
    server.set_read_timeout(Some(std::time::Duration::from_micros(1))).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.set_read_timeout(None).unwrap();
    (client, server)
}

#[test]
fn no_descriptor_is_lost() {
    let _alone = ALONE.lock().unwrap();
    bounded(|| {
        // The poller's own.
        drop(registered_pair());
        let before = open_descriptors();
        for _ in 0..200 {
            let (client, server) = registered_pair();
            let clone = client.try_clone().unwrap();
            let std = std::net::TcpStream::from(clone);
            drop((client, server, TcpStream::from(std)));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            drop(listener);
            assert!(TcpStream::connect(addr).is_err());
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_number_that_is_used_again_gets_its_own_events_only() {
    let _alone = ALONE.lock().unwrap();
    bounded(|| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..500u32 {
                        let (mut client, server) = registered_pair();
                        // An event is on its way when the descriptor is closed, and the next
                        // connection gets its number, and often its slot.
                        client.write_all(b"stale").unwrap();
                        drop(server);
                        let (mut client, mut server) = registered_pair();
                        let word = round.to_ne_bytes();
                        let sender = thread::spawn(move || client.write_all(&word).unwrap());
                        let mut got = [0; 4];
                        server.read_exact(&mut got).unwrap();
                        assert_eq!(got, word);
                        sender.join().unwrap();
                    }
                });
            }
        });
    });
}
