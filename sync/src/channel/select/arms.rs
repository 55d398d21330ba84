//! The operations of a select.

use super::INLINE;
use super::wait::Arm;

/// A vector that needs no allocation for a few operations.
#[derive(Clone)]
pub(super) struct Arms<'a> {
    few: [Arm<'a>; INLINE],
    /// How many of `few` there are; 0 as soon as there were too many.
    len: usize,
    /// All of them, once there were too many.
    many: Vec<Arm<'a>>,
}

impl<'a> Arms<'a> {
    pub(super) fn new() -> Self {
        Self { few: [Arm::NOBODY; INLINE], len: 0, many: Vec::new() }
    }

    pub(super) fn push(&mut self, arm: Arm<'a>) {
        if self.many.is_empty() && self.len < INLINE {
            self.few[self.len] = arm;
            self.len += 1;
        } else {
            self.many.extend_from_slice(&self.few[..self.len]);
            self.len = 0;
            self.many.push(arm);
        }
    }

    /// Takes out the operation with this index, if there is one.
    pub(super) fn remove(&mut self, index: usize) -> bool {
        let Some(at) = self.as_mut_slice().iter().position(|arm| arm.index == index) else {
            return false;
        };
        if self.many.is_empty() {
            self.few.copy_within(at + 1..self.len, at);
            self.len -= 1;
        } else {
            self.many.remove(at);
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.many.is_empty() && self.len == 0
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Arm<'a>] {
        match self.many.is_empty() {
            true => &mut self.few[..self.len],
            false => &mut self.many,
        }
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::super::operation::Nobody;
    use super::*;

    fn indices(arms: &mut Arms<'_>) -> Vec<usize> {
        arms.as_mut_slice().iter().map(|arm| arm.index).collect()
    }

    #[test]
    fn few_and_many_come_and_go() {
        for count in [0, 1, INLINE, INLINE + 1, 3 * INLINE] {
            let mut arms = Arms::new();
            (0..count).for_each(|index| arms.push(Arm::new(&Nobody, index)));
            assert_eq!(indices(&mut arms), (0..count).collect::<Vec<_>>());
            assert_eq!(indices(&mut arms.clone()), (0..count).collect::<Vec<_>>());
            for index in 0..count {
                assert!(!arms.is_empty());
                assert!(arms.remove(index) && !arms.remove(index));
                assert_eq!(indices(&mut arms), (index + 1..count).collect::<Vec<_>>());
            }
            assert!(arms.is_empty());
            arms.push(Arm::new(&Nobody, 7));
            assert_eq!(indices(&mut arms), [7]);
        }
    }
}
