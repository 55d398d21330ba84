//! No register's value is lost in a switch: millions of switches among eight sides in random order,
//! each side with values of its own, so that whatever a switch confounds is somebody else's.
//!
//! `BINE_TEST_SWITCHES` sets the number of switches of each test, for emulators.

#[cfg(target_arch = "x86_64")]
#[path = "registers/x86_64.rs"]
mod machine;

#[cfg(target_arch = "aarch64")]
#[path = "registers/aarch64.rs"]
mod machine;

#[cfg(target_arch = "riscv64")]
#[path = "registers/riscv64.rs"]
mod machine;

mod random;

use std::arch::asm;
use std::fmt::Write;

use bine_arch::context::{self, Context, Entry};
use bine_arch::stack::{DEFAULT_STACK_SIZE, Permit, Stack, StackCache};
use machine::{NAMES, REGISTERS};
use random::Random;

/// The test's own stack, side 0, and those of seven green threads.
const SIDES: usize = 8;

/// The values that the call-saved registers are given before a switch, and those they have after.
#[repr(C)]
struct Values {
    loaded: [u64; REGISTERS],
    found: [u64; REGISTERS],
}

/// What the sides of a test share. One of them runs at a time.
struct Game {
    contexts: [Context; SIDES],
    /// How many switches are left.
    remaining: u64,
    /// The word of the last switch.
    sent: usize,
    /// The words that each side was given: all added up, and all xored.
    received: [(u64, u64); SIDES],
    /// Which green threads have ended.
    ended: [bool; SIDES],
    /// What went wrong first.
    failure: Option<String>,
    seed: u64,
}

/// One side of a game, as its entry function gets it.
struct Side {
    game: *mut Game,
    index: usize,
}

/// A switch, as `switch_away` gets it.
struct Switch {
    save: *mut Context,
    to: Context,
    word: usize,
}

/// The switch, in a function of the C ABI: it owes its caller all call-saved registers.
#[inline(never)]
unsafe extern "C" fn switch_away(switch: *const Switch) -> usize {
    // SAFETY: `switch` comes from `play`, whose contexts are as its comment says.
    unsafe { context::switch((*switch).save, (*switch).to, (*switch).word) }
}

/// The numbers of one side.
fn numbers_of(seed: u64, side: usize) -> Random {
    Random(seed.wrapping_add((side as u64).wrapping_mul(0xd1b5_4a32_d192_ed03)))
}

impl Side {
    /// Whom to continue next, and with which word; `None` when the game is over.
    ///
    /// # Safety
    ///
    /// The game is there, as for all methods.
    #[inline(always)]
    unsafe fn draw(&self, random: &mut Random) -> Option<Switch> {
        // SAFETY: only the running side looks at the game.
        let game = unsafe { &mut *self.game };
        if game.remaining == 0 {
            return None;
        }
        game.remaining -= 1;
        let to = (self.index + 1 + random.next() as usize % (SIDES - 1)) % SIDES;
        game.sent = random.next() as usize;
        let (to, word) = (game.contexts[to], game.sent);
        Some(Switch { save: &raw mut game.contexts[self.index], to, word })
    }

    /// Takes note of the word that continued this side.
    #[inline(always)]
    unsafe fn receive(&self, word: usize) {
        // SAFETY: as in `draw`.
        let game = unsafe { &mut *self.game };
        let (sum, xored) = &mut game.received[self.index];
        *sum = sum.wrapping_add(word as u64);
        *xored ^= word as u64;
        if word != game.sent {
            // SAFETY: as above.
            unsafe { self.fail(format!("got the word {word:#x}, not {:#x}", game.sent)) };
        }
    }

    /// Ends the game: a green thread's stack is no place for a panic of the test.
    #[cold]
    unsafe fn fail(&self, what: String) {
        // SAFETY: as in `draw`.
        let game = unsafe { &mut *self.game };
        game.failure.get_or_insert_with(|| {
            format!("side {} with {} switches to go: {what}", self.index, game.remaining)
        });
        game.remaining = 0;
    }
}

/// Plays a game in which each green thread begins with `entry`; `play_side` is the test's own part.
fn play(entry: Entry, play_side: unsafe fn(&Side)) {
    let seed = number_from("BINE_TEST_SEED", 0x6269_6e65);
    let switches = number_from("BINE_TEST_SWITCHES", 10_000_000);
    println!("BINE_TEST_SEED={seed} BINE_TEST_SWITCHES={switches}");

    let mut game = Game {
        contexts: [Context::null(); SIDES],
        remaining: switches,
        sent: 0,
        received: [(0, 0); SIDES],
        ended: [false; SIDES],
        failure: None,
        seed,
    };
    let game = &raw mut game;
    let sides: [Side; SIDES] = std::array::from_fn(|index| Side { game, index });
    let stacks: [(Stack, Permit); SIDES - 1] = std::array::from_fn(|_| {
        let permit = Permit::reserve(DEFAULT_STACK_SIZE).unwrap();
        (StackCache::new().take(&permit).unwrap(), permit)
    });
    // SAFETY: a context is written by the side that leaves, just before the next one runs, and
    // continued before that side runs again: valid whenever it is drawn. In the end every green
    // thread has left its stack for good.
    let failure = unsafe {
        for (side, (stack, _)) in sides[1..].iter().zip(&stacks) {
            let data = &raw const *side as usize;
            (*game).contexts[side.index] = context::prepare(stack.bounds(), entry, data);
        }
        play_side(&sides[0]);
        // The others are suspended somewhere: let each find that the game is over.
        for index in 1..SIDES {
            if !(*game).ended[index] {
                let to = (*game).contexts[index];
                context::switch(&raw mut (*game).contexts[0], to, (*game).sent);
            }
        }
        let ended = (*game).ended;
        assert!(ended[1..].iter().all(|&ended| ended));
        (*game).failure.take()
    };
    for (stack, permit) in stacks {
        drop(stack);
        drop(permit);
    }
    assert_eq!(failure, None, "BINE_TEST_SEED={seed}");
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().expect("the variable holds a number"))
}

/// The end of a green thread: on to side 0, which finds that the game is over.
unsafe fn end(side: &Side) -> ! {
    // SAFETY: side 0 is suspended, since this one runs; nothing on this stack has a destructor.
    unsafe {
        (*side.game).ended[side.index] = true;
        context::switch_final((*side.game).contexts[0], (*side.game).sent)
    }
}

unsafe fn fill_registers(side: &Side) {
    // SAFETY: the side is one of `play`'s; `hold` gets what it asks for.
    unsafe {
        let mut random = numbers_of((*side.game).seed, side.index);
        let mut values = Values { loaded: [0; REGISTERS], found: [0; REGISTERS] };
        while let Some(switch) = side.draw(&mut random) {
            values.loaded = std::array::from_fn(|_| random.next());
            let word = machine::hold(&raw mut values, &raw const switch);
            side.receive(word);
            if values.found != values.loaded {
                side.fail(difference(&values));
            }
        }
    }
}

#[cold]
fn difference(values: &Values) -> String {
    let mut text = String::new();
    for ((name, loaded), found) in NAMES.iter().zip(values.loaded).zip(values.found) {
        if loaded != found {
            write!(text, "{name} was {loaded:#x} and is {found:#x}; ").unwrap();
        }
    }
    text
}

unsafe extern "C" fn fill_registers_inside(word: usize, side: usize) -> ! {
    // SAFETY: `play` passed the side.
    unsafe {
        let side = &*(side as *const Side);
        side.receive(word);
        fill_registers(side);
        end(side)
    }
}

#[test]
fn call_saved_registers_keep_their_values() {
    play(fill_registers_inside, fill_registers);
}

/// Plays with one value more in each register that inline assembly can name: right before and right
/// after the switch, which is inlined. In an optimised build the value stays there, unless the
/// compiler knows that the switch changes the register.
///
/// Each value changes at each step by something that `received` tells in the end. They are single
/// variables and not arrays, which the compiler would leave in memory.
macro_rules! live_values {
    ($side:ident, $random:ident; $($int:ident in $word_register:tt)+; $($wide:ident in $wide_register:tt)+) => {{
        $(
            let start = $random.next();
            let mut $int = (start, start);
        )+
        $(
            let start = machine::wide([$random.next(), $random.next()]);
            let mut $wide = (start, start);
        )+
        let before = (*$side.game).received[$side.index];
        while let Some(Switch { save, to, word }) = $side.draw(&mut $random) {
            asm!("", $(inlateout($word_register) $int.1,)+ $(inlateout($wide_register) $wide.1,)+);
            let word = context::switch(save, to, word);
            asm!("", $(inlateout($word_register) $int.1,)+ $(inlateout($wide_register) $wide.1,)+);
            $side.receive(word);
            $($int.1 = $int.1.wrapping_add((word as u64).wrapping_mul($int.0 | 1));)+
            $($wide.1 = machine::xor($wide.1, word as u64);)+
        }
        let after = (*$side.game).received[$side.index];
        let sum = after.0.wrapping_sub(before.0);
        let xored = after.1 ^ before.1;
        let mut wrong = String::new();
        $(if $int.1 != $int.0.wrapping_add(sum.wrapping_mul($int.0 | 1)) {
            wrong += concat!($word_register, " ");
        })+
        $(if machine::bits($wide.1) != machine::bits(machine::xor($wide.0, xored)) {
            wrong += concat!($wide_register, " ");
        })+
        if !wrong.is_empty() {
            $side.fail(format!("the values begun in these registers are wrong: {wrong}"));
        }
    }};
}

unsafe fn live_with_values(side: &Side) {
    // SAFETY: the side is one of `play`'s; the assembly is empty.
    unsafe {
        let mut random = numbers_of((*side.game).seed, side.index);
        machine::for_each_register!(live_values, side, random);
    }
}

unsafe extern "C" fn live_with_values_inside(word: usize, side: usize) -> ! {
    // SAFETY: `play` passed the side.
    unsafe {
        let side = &*(side as *const Side);
        side.receive(word);
        live_with_values(side);
        end(side)
    }
}

#[test]
fn live_values_survive_in_any_register() {
    play(live_with_values_inside, live_with_values);
}

/// What the two sides of the test of control words share.
struct Rounding {
    outside: Context,
    inside: Context,
    /// What the green thread found, and what it leaves.
    found: u64,
    left: u64,
}

unsafe extern "C" fn change_rounding(_: usize, data: usize) -> ! {
    let rounding = data as *mut Rounding;
    // SAFETY: `data` is the test's; no floating-point code runs before the test has put everything
    // back.
    unsafe {
        (*rounding).found = machine::control_words();
        machine::set_control_words((*rounding).left);
        context::switch_final((*rounding).outside, 0)
    }
}

/// The policy of [`context`]: rounding modes belong to the OS thread.
#[test]
fn control_words_are_shared() {
    let permit = Permit::reserve(DEFAULT_STACK_SIZE).unwrap();
    let stack = StackCache::new().take(&permit).unwrap();
    let usual = machine::control_words();
    let [up, down] = machine::ROUNDING.map(|bits| usual ^ bits);
    let mut rounding =
        Rounding { outside: Context::null(), inside: Context::null(), found: 0, left: down };
    let rounding = &raw mut rounding;
    // SAFETY: the stack is fresh and stays until its only switch back; the control words are put
    // back before anything is computed with.
    let (found, returned) = unsafe {
        (*rounding).inside = context::prepare(stack.bounds(), change_rounding, rounding as usize);
        machine::set_control_words(up);
        context::switch(&raw mut (*rounding).outside, (*rounding).inside, 0);
        let returned = machine::control_words();
        machine::set_control_words(usual);
        ((*rounding).found, returned)
    };
    assert!(usual != up && up != down);
    assert_eq!((found, returned), (up, down), "usually {usual:#x}");
    drop(stack);
    drop(permit);
}
