//! Model checking of programs: [`model`](fn@crate::model), and how far it searches.
//!
//! Under `--cfg bine_loom` a model runs its closure in every interleaving that
//! [loom](https://docs.rs/loom) tells apart, within bounds. Without that cfg it runs the closure once, as
//! a green thread, so that one source is a model and an ordinary test.

use std::path::PathBuf;
use std::time::Duration;

/// Runs `f` in every interleaving of its threads, with the bounds of [`Builder::new`]; without
/// `--cfg bine_loom` once, on the default runtime.
///
/// ```
/// use bine_runtime::{model, spawn};
///
/// model(|| {
///     let thread = spawn(|| 1 + 1);
///     assert_eq!(thread.join().unwrap(), 2);
/// });
/// ```
///
/// # Panics
///
/// With the panic of the first execution that fails; under the cfg also if that deadlocks, or if a
/// thread panics and nobody takes that from its join handle.
pub fn model(f: impl Fn() + Send + Sync + 'static) {
    Builder::new().check(f);
}

/// Preemptions in an execution where nothing says otherwise.
#[cfg(bine_loom)]
const PREEMPTIONS: usize = 2;

/// Operations and choices in an execution where nothing says otherwise.
#[cfg(bine_loom)]
const BRANCHES: usize = 10_000;

/// How far a model is searched. Without `--cfg bine_loom` there is no search, and all of it is ignored.
///
/// loom's variables in the environment hold where the program says nothing:
/// `LOOM_MAX_PREEMPTIONS`, `LOOM_MAX_BRANCHES`, `LOOM_MAX_DURATION` (seconds),
/// `LOOM_MAX_PERMUTATIONS`, `LOOM_CHECKPOINT_FILE`, `LOOM_CHECKPOINT_INTERVAL`, `LOOM_LOCATION` and `LOOM_LOG`.
///
/// ```
/// bine_runtime::model::Builder::new().max_preemptions(3).check(|| ());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is checked until `check` is called"]
pub struct Builder(Settings);

/// What was set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    preemptions: Option<usize>,
    executions: Option<usize>,
    branches: Option<usize>,
    duration: Option<Duration>,
    checkpoint: Option<PathBuf>,
}

impl Builder {
    /// At most 2 preemptions, and 10,000 branches; otherwise the whole search.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often an execution may switch threads where it need not. Most mistakes need one or two; each
    /// one more multiplies the executions. `LOOM_MAX_PREEMPTIONS`, if it is less, wins.
    pub fn max_preemptions(mut self, preemptions: usize) -> Self {
        self.0.preemptions = Some(preemptions);
        self
    }

    /// Ends the search, as if nothing had been found, after so many executions.
    pub fn max_executions(mut self, executions: usize) -> Self {
        self.0.executions = Some(executions);
        self
    }

    /// Ends the search, as if nothing had been found, after so much time.
    pub fn max_duration(mut self, duration: Duration) -> Self {
        self.0.duration = Some(duration);
        self
    }

    /// How many operations and choices an execution may have. One with more fails the model: it may well
    /// go on for ever.
    pub fn max_branches(mut self, branches: usize) -> Self {
        self.0.branches = Some(branches);
        self
    }

    /// Where to keep how far the search has come, every 20,000 executions; it goes on from there if the
    /// file exists.
    pub fn checkpoint_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.0.checkpoint = Some(file.into());
        self
    }

    /// Checks the model. Returns the number of executions.
    ///
    /// # Panics
    ///
    /// As [`model`](fn@crate::model).
    pub fn check(self, f: impl Fn() + Send + Sync + 'static) -> usize {
        #[cfg(bine_loom)]
        return crate::modelled::explorer::check(&self.0, true, std::sync::Arc::new(f));
        #[cfg(not(bine_loom))]
        {
            crate::run(f);
            1
        }
    }

    /// As [`check`](Self::check), for the models of bine's own protocols: without a user's panics,
    /// timeouts that expire at once, and several at a time.
    #[cfg(bine_loom)]
    #[doc(hidden)]
    pub fn check_protocol(self, f: impl Fn() + Send + Sync + 'static) -> usize {
        crate::modelled::explorer::check(&self.0, false, std::sync::Arc::new(f))
    }
}

#[cfg(bine_loom)]
impl Settings {
    pub(crate) fn to_loom(&self) -> loom::model::Builder {
        let mut builder = loom::model::Builder::new();
        let given = builder.preemption_bound;
        builder.preemption_bound = Some(match (given, self.preemptions) {
            (Some(given), Some(wanted)) => given.min(wanted),
            (given, wanted) => given.or(wanted).unwrap_or(PREEMPTIONS),
        });
        if std::env::var_os("LOOM_MAX_BRANCHES").is_none() {
            builder.max_branches = BRANCHES;
        }
        if let Some(branches) = self.branches {
            builder.max_branches = branches;
        }
        if let Some(duration) = self.duration {
            builder.max_duration = Some(duration);
        }
        if let Some(executions) = self.executions {
            builder.max_permutations = Some(executions);
        }
        if let Some(file) = &self.checkpoint {
            builder.checkpoint_file = Some(file.clone());
        }
        // loom looks at the other bounds when it writes the file.
        let is_bounded = builder.max_duration.is_some() || builder.max_permutations.is_some();
        if is_bounded && builder.checkpoint_file.is_none() {
            builder.checkpoint_interval = 1;
        }
        builder
    }
}

/// Has loom tell what it does, as `LOOM_LOG` says, while the guard lives.
#[cfg(bine_loom)]
pub(crate) fn log() -> impl Sized {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::util::SubscriberInitExt;

    std::env::var_os("LOOM_LOG").map(|_| {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::from_env("LOOM_LOG"))
            .with_test_writer()
            .without_time()
            .finish()
            .set_default()
    })
}
