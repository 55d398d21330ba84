//! What clients can say.

use crate::Server;
use crate::client::Client;

/// What to do after a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stay,
    Quit,
}

const HELP: [&str; 6] = [
    "/nick NAME   have another name",
    "/join ROOM   go to another room, which is made if need be",
    "/leave       go back to the lobby",
    "/rooms       which rooms there are",
    "/who         who is in this room",
    "/quit        leave. Anything else is said to all in the room",
];

/// Longest names of clients and rooms.
const LONGEST_NAME: usize = 20;

pub(crate) fn obey(client: &Client, server: &Server, line: &str) -> Next {
    let (command, argument) = match line.split_once(' ') {
        Some((command, argument)) => (command, argument.trim()),
        None => (line, ""),
    };
    let (rooms, patience) = (&server.rooms, server.limits.patience);
    match command {
        "" => {}
        "/nick" | "/join" if !is_name(argument) => {
            client.answer(&format!(
                "{command} takes a name: up to {LONGEST_NAME} letters, digits, - and _"
            ));
        }
        "/nick" => {
            if !rooms.rename(client.id, argument, patience) {
                client.answer(&format!("there is a {argument} already"));
            }
        }
        "/join" => rooms.go(client.id, argument, patience),
        "/leave" => rooms.go(client.id, crate::rooms::LOBBY, patience),
        "/rooms" => {
            for (room, members) in rooms.list() {
                client.answer(&format!("{room}: {members}"));
            }
        }
        "/who" => client.answer(&rooms.neighbours(client.id).join(" ")),
        "/help" => HELP.iter().for_each(|line| client.answer(line)),
        "/quit" => return Next::Quit,
        "/panic" if server.limits.allow_panic => panic!("a client has asked for it"),
        _ if command.starts_with('/') => {
            client.answer(&format!("there is no {command}; /help tells what there is"));
        }
        _ => rooms.say(client.id, line, patience),
    }
    Next::Stay
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
