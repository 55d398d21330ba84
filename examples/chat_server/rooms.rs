//! Who is where, and who hears what.
//!
//! The directory is locked for moments only, never while anybody waits for a client. What is said in a
//! room is passed on under the lock of the room's *turn*: so all members hear everything in the same
//! order, and whoever talks faster than the slowest of them listens waits.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bine::sync::{Mutex, MutexGuard, PoisonError};

use crate::client::Client;

/// Where everybody begins.
pub(crate) const LOBBY: &str = "lobby";

#[derive(Default)]
pub(crate) struct Rooms(Mutex<Directory>);

#[derive(Default)]
struct Directory {
    people: HashMap<u64, Person>,
    nicks: HashSet<String>,
    /// Those that are not empty.
    rooms: BTreeMap<String, Room>,
    guests: u64,
}

struct Person {
    client: Arc<Client>,
    nick: String,
    room: String,
}

#[derive(Default)]
struct Room {
    members: BTreeSet<u64>,
    turn: Arc<Mutex<()>>,
}

impl Rooms {
    /// Gives a client a name, and lets it into the lobby.
    pub(crate) fn enter(&self, client: &Arc<Client>, patience: Duration) {
        let mut directory = self.lock();
        let nick = directory.free_nick();
        let person = Person { client: Arc::clone(client), nick: nick.clone(), room: String::new() };
        directory.people.insert(client.id, person);
        directory.put(client.id, LOBBY);
        drop(directory);
        client.answer(&format!("welcome, {nick}; /help tells what you can do"));
        self.announce(LOBBY, &format!("* {nick} came to {LOBBY}\n"), patience);
    }

    /// Takes a client out, and tells those who were with it.
    pub(crate) fn leave(&self, id: u64, reason: &str, patience: Duration) {
        let mut directory = self.lock();
        // One whose thread has panicked in the wrong moment may not have got here.
        let Some(person) = directory.people.remove(&id) else { return };
        directory.take_out(id, &person.room);
        directory.nicks.remove(&person.nick);
        drop(directory);
        self.announce(&person.room, &format!("* {} left: {reason}\n", person.nick), patience);
    }

    /// Says something to all in the room, the speaker among them.
    pub(crate) fn say(&self, id: u64, text: &str, patience: Duration) {
        let (nick, room) = self.nick_and_room(id);
        self.announce(&room, &format!("<{nick}> {text}\n"), patience);
    }

    /// Gives a client another name. False if somebody else has it.
    pub(crate) fn rename(&self, id: u64, nick: &str, patience: Duration) -> bool {
        let mut directory = self.lock();
        if !directory.nicks.insert(nick.to_owned()) {
            return false;
        }
        let person = directory.person_mut(id);
        let old = std::mem::replace(&mut person.nick, nick.to_owned());
        let room = person.room.clone();
        directory.nicks.remove(&old);
        drop(directory);
        self.announce(&room, &format!("* {old} is now {nick}\n"), patience);
        true
    }

    /// Takes a client to another room.
    pub(crate) fn go(&self, id: u64, room: &str, patience: Duration) {
        let mut directory = self.lock();
        let person = directory.person_mut(id);
        let (nick, old) = (person.nick.clone(), person.room.clone());
        if old != room {
            directory.take_out(id, &old);
            directory.put(id, room);
        }
        drop(directory);
        if old != room {
            self.announce(&old, &format!("* {nick} went to {room}\n"), patience);
        }
        self.announce(room, &format!("* {nick} came to {room}\n"), patience);
    }

    /// The rooms, and how many are in each.
    pub(crate) fn list(&self) -> Vec<(String, usize)> {
        let directory = self.lock();
        directory.rooms.iter().map(|(name, room)| (name.clone(), room.members.len())).collect()
    }

    /// The names of those who are where the client is, in the order in which they came.
    pub(crate) fn neighbours(&self, id: u64) -> Vec<String> {
        let directory = self.lock();
        let room = &directory.rooms[&directory.people[&id].room];
        room.members.iter().map(|member| directory.people[member].nick.clone()).collect()
    }

    fn nick_and_room(&self, id: u64) -> (String, String) {
        let directory = self.lock();
        let person = &directory.people[&id];
        (person.nick.clone(), person.room.clone())
    }

    /// Has all in the room hear a message. Members who have no room for it in time are dropped.
    fn announce(&self, room: &str, message: &str, patience: Duration) {
        let Some(turn) = self.lock().rooms.get(room).map(|room| Arc::clone(&room.turn)) else {
            return;
        };
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Not before: who has come in the meantime hears it, and who has gone does not.
        let members = self.lock().members(room);
        let (message, deadline) = (Arc::from(message), Instant::now() + patience);
        for member in members {
            member.hear(&message, deadline);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Directory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory {
    fn free_nick(&mut self) -> String {
        loop {
            self.guests += 1;
            let nick = format!("guest{}", self.guests);
            if self.nicks.insert(nick.clone()) {
                return nick;
            }
        }
    }

    fn person_mut(&mut self, id: u64) -> &mut Person {
        self.people.get_mut(&id).expect("whoever speaks is here")
    }

    fn put(&mut self, id: u64, room: &str) {
        self.person_mut(id).room = room.to_owned();
        self.rooms.entry(room.to_owned()).or_default().members.insert(id);
    }

    fn take_out(&mut self, id: u64, room: &str) {
        let Some(members) = self.rooms.get_mut(room).map(|room| &mut room.members) else { return };
        members.remove(&id);
        if members.is_empty() {
            self.rooms.remove(room);
        }
    }

    fn members(&self, room: &str) -> Vec<Arc<Client>> {
        let members = self.rooms.get(room).into_iter().flat_map(|room| &room.members);
        members.map(|id| Arc::clone(&self.people[id].client)).collect()
    }
}
