//! One look at a stack, and the report.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::ptr::NonNull;
use std::sync::LazyLock;

use bine_arch::frames::{self, Frame};
use bine_arch::tls::{self, Block};
use parking_lot::Mutex;

use super::VARIABLE;
use super::symbols::{self, Function, Owner};
use super::variables::{self, Variable};
use crate::task::Task;

/// With so many reports a program has been told enough.
const MAX_REPORTS: usize = 100;

/// A word that is the address of a thread-local.
#[derive(Clone, Copy)]
struct Hit {
    /// The index of the frame.
    frame: usize,
    /// Where the word lies, or `None` if in a register.
    slot: Option<usize>,
    word: usize,
    place: Place,
}

/// What makes two hits the same: the function, who called it, and the thread-local, whichever green
/// thread and OS thread it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    instruction: usize,
    caller: usize,
    block: usize,
    offset: usize,
}

#[derive(Default)]
struct Known {
    /// Reported or not; and whether in a register, where the same may not count.
    seen: HashSet<(Place, bool)>,
    reported: HashSet<Place>,
    reports: usize,
}

impl Known {
    /// Keeps the hits that have not been seen, and whose thread-local may have been lent.
    fn keep_new(&mut self, hits: &mut Vec<Hit>, blocks: &[Block]) {
        hits.retain(|hit| {
            if self.seen.contains(&hit.key()) {
                return false;
            }
            let module = &blocks[hit.place.block].module;
            let lent = variables::at(module, hit.place.offset) != Variable::NeverLent;
            if !lent {
                self.seen.insert(hit.key());
            }
            lent
        });
    }
}

impl Hit {
    fn key(&self) -> (Place, bool) {
        (self.place, self.slot.is_none())
    }
}

/// Of the whole process.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Whether there was something new to report about the stack that runs, that of `task`.
#[inline(never)]
pub(super) fn look(task: NonNull<Task>, worker: usize) -> bool {
    let frames = frames::walk();
    let Some(blocks) = tls::blocks() else { return false };
    let mut hits = find(&frames, &blocks);
    KNOWN.lock().keep_new(&mut hits, &blocks);
    if hits.is_empty() {
        return false;
    }
    let functions = symbols::of_this_stack();
    let looked_at = looked_at(&frames, &functions);
    // Whoever comes first reports it.
    let mut known = KNOWN.lock();
    hits.retain(|hit| {
        known.seen.insert(hit.key()) && counts(hit, &looked_at) && known.reported.insert(hit.place)
    });
    if hits.is_empty() || known.reports == MAX_REPORTS {
        return false;
    }
    known.reports += 1;
    let last = known.reports == MAX_REPORTS;
    drop(known);
    let report = Report { task, worker, hits, looked_at, frames, blocks, functions };
    let mut text = String::new();
    // A String takes all that is written.
    let _ = report.describe(&mut text);
    if last {
        let _ =
            writeln!(text, "note: this was the last one: {VARIABLE} makes {MAX_REPORTS} reports");
    }
    // In one piece. Nobody is there to hear of a failure.
    let _ = io::stderr().write_all(text.as_bytes());
    true
}

/// All words on the stack, and in the registers, that lie in a block.
fn find(frames: &[Frame], blocks: &[Block]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let first = blocks.iter().map(|block| block.range.start).min().unwrap_or(0);
    let last = blocks.iter().map(|block| block.range.end).max().unwrap_or(0);
    // The outermost frame has no caller, so nobody knows how long it is. It is the trampoline.
    for (frame, pair) in frames.windows(2).enumerate() {
        let [inner, outer] = pair else { unreachable!("windows of two") };
        let mut add = |slot: Option<usize>, word| {
            let holds = |block: &Block| block.range.contains(&word);
            let Some(block) = blocks.iter().position(holds) else { return };
            let place = Place {
                instruction: inner.instruction,
                caller: outer.instruction,
                block,
                offset: word - blocks[block].range.start,
            };
            hits.push(Hit { frame, slot, word, place });
        };
        let range = inner.stack_pointer..outer.stack_pointer;
        // SAFETY: the unwinder has found the frames of the stack that runs, which this thread alone
        // writes to. (Frames that are not in order make an empty range.)
        unsafe {
            frames::for_each_word(range, first..last, &mut |slot, word| add(Some(slot), word))
        };
        for &word in &inner.registers {
            if word >= first && word < last {
                add(None, word);
            }
        }
    }
    hits
}

/// The frames from the first to the last one of the program's, and which of them are looked at.
fn looked_at(frames: &[Frame], functions: &HashMap<usize, Function>) -> Vec<bool> {
    // The check's own functions went on from elsewhere when the names were looked up. Others
    // without a name are the program's.
    let is_known = |frame: &Frame| functions.contains_key(&frame.instruction);
    let ours = frames.iter().position(is_known).unwrap_or(0);
    let owner = |(index, frame): (usize, &Frame)| match functions.get(&frame.instruction) {
        None if index < ours => Owner::Bine,
        None => Owner::Program,
        Some(function) if function.owner == Owner::Unknown => Owner::Program,
        Some(function) => function.owner,
    };
    let owners: Vec<_> = frames.iter().enumerate().map(owner).collect();
    let is_programs = |owner: &Owner| *owner == Owner::Program;
    let first = owners.iter().position(is_programs).unwrap_or(0);
    let last = owners.iter().rposition(is_programs).unwrap_or(0);
    let range = first..=last;
    let is_in = |(index, owner)| range.contains(&index) && owner != Owner::Bine;
    owners.into_iter().enumerate().map(is_in).collect()
}

fn counts(hit: &Hit, looked_at: &[bool]) -> bool {
    // What a frame has in registers counts where its callee, who has spilt them, is not looked at.
    let spilt_unseen = hit.slot.is_some() || hit.frame == 0 || !looked_at[hit.frame - 1];
    looked_at[hit.frame] && spilt_unseen
}

struct Report {
    task: NonNull<Task>,
    worker: usize,
    hits: Vec<Hit>,
    looked_at: Vec<bool>,
    frames: Vec<Frame>,
    blocks: Vec<Block>,
    functions: HashMap<usize, Function>,
}

impl Report {
    fn describe(&self, text: &mut String) -> fmt::Result {
        text.push('\n');
        // SAFETY: the thread that runs is alive.
        unsafe { Task::describe(self.task.as_ptr().cast_const().cast(), text)? };
        writeln!(text, " waits on worker {} and may go on on another one,", self.worker)?;
        writeln!(text, "but addresses of the worker's thread-locals are on its stack:")?;
        for hit in &self.hits {
            self.describe_hit(text, hit)?;
        }
        text.push_str("stack backtrace (-> holds such an address):\n");
        self.describe_stack(text)?;
        text.push_str(
            "note: this is undefined behaviour if the address is used after the wait. If it is not \
             (a slot may hold\n      what an earlier call has left there), it is harmless; every place \
             is reported once.\n\
             note: end the borrow before the wait, or make the green thread `pinned(true)`: see \
             docs/migration.md\n",
        );
        Ok(())
    }

    fn describe_hit(&self, text: &mut String, hit: &Hit) -> fmt::Result {
        let block = &self.blocks[hit.place.block];
        let (address, offset) = (hit.word, hit.place.offset);
        write!(text, "  {address:#x}, ")?;
        match variables::at(&block.module, offset) {
            Variable::Named(name, 0) => write!(text, "{name}")?,
            Variable::Named(name, into) => write!(text, "{name} + {into}")?,
            _ => write!(text, "byte {offset} of the {}", block.range.len())?,
        }
        let module = if block.module.is_empty() { "the program" } else { &block.module };
        write!(text, " of {module}, ")?;
        match hit.slot {
            Some(slot) => {
                let depth = self.frames.last().map_or(0, |last| last.stack_pointer - slot);
                write!(text, "{depth} bytes below the top")?;
            }
            None => write!(text, "in a register")?,
        }
        writeln!(text, ", in {}", self.name(hit.frame))
    }

    fn name(&self, frame: usize) -> String {
        let function = self.functions.get(&self.frames[frame].instruction);
        function.map_or_else(|| "<unknown>".to_owned(), Function::name)
    }

    /// From the blocking call to the program's outermost function.
    fn describe_stack(&self, text: &mut String) -> fmt::Result {
        let first = self.looked_at.iter().position(|it| *it).unwrap_or(0);
        let last = self.looked_at.iter().rposition(|it| *it).unwrap_or(0);
        for frame in first.saturating_sub(1)..=last {
            let holds = self.hits.iter().any(|hit| hit.frame == frame);
            let mark = if holds { "->" } else { "  " };
            let number = frame - first.saturating_sub(1);
            let Some(function) = self.functions.get(&self.frames[frame].instruction) else {
                writeln!(text, "{mark}{number:4}: <unknown>")?;
                continue;
            };
            for (index, (name, place)) in function.names.iter().enumerate() {
                match index {
                    0 => writeln!(text, "{mark}{number:4}: {name}")?,
                    _ => writeln!(text, "        {name}")?,
                }
                if let Some(place) = place {
                    writeln!(text, "             at {place}")?;
                }
            }
        }
        Ok(())
    }
}
