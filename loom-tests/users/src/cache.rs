//! A cache that computes the value of each key once, also if many ask for it at the same time.

use std::collections::HashMap;
use std::hash::Hash;

use bine::sync::{Arc, OnceLock, RwLock};

/// Values by key.
///
/// The mistake: the slot of a key is looked for with the lock for reading, and made with the lock for
/// writing, without another look: two that ask at the same time make two slots, and compute twice.
#[derive(Debug)]
pub struct Cache<K, V, const MISTAKEN: bool = false> {
    slots: RwLock<HashMap<K, Arc<OnceLock<V>>>>,
}

impl<K: Eq + Hash + Clone, V: Clone, const MISTAKEN: bool> Default for Cache<K, V, MISTAKEN> {
    fn default() -> Self {
        Self { slots: RwLock::default() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone, const MISTAKEN: bool> Cache<K, V, MISTAKEN> {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key`, computed if it is not there.
    ///
    /// # Panics
    ///
    /// As `compute` does; the next one who asks computes it then.
    pub fn get(&self, key: &K, compute: impl FnOnce(&K) -> V) -> V {
        // Outside of the lock: others may use the cache meanwhile.
        self.slot(key).get_or_init(|| compute(key)).clone()
    }

    fn slot(&self, key: &K) -> Arc<OnceLock<V>> {
        if let Some(slot) = self.slots.read().unwrap().get(key) {
            return Arc::clone(slot);
        }
        let mut slots = self.slots.write().unwrap();
        if MISTAKEN {
            slots.insert(key.clone(), Arc::default());
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}
