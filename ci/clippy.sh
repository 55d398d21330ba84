#!/usr/bin/env bash
# No warnings from rustc or clippy, in the normal build and in the one that loom models.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

cargo clippy --version >/dev/null 2>&1 || missing "no clippy: rustup component add clippy"
cargo clippy --workspace --all-targets -- -D warnings

# Other flags mean another build of every crate: a directory of its own keeps both. The crates' own tests
# are not for the cfg.
given="${RUSTFLAGS:-}"
export RUSTFLAGS="--cfg bine_loom $given"
export CARGO_TARGET_DIR="$target_dir/loom"
cargo clippy -p bine-runtime -p bine-sync -p bine-io -p bine --lib -- -D warnings
cargo clippy -p bine-loom-tests -p bine-model-examples --tests -- -D warnings

# What is compiled for a sanitizer only.
for sanitizer in address thread; do
    export RUSTFLAGS="--cfg bine_sanitize=\"$sanitizer\" $given"
    export CARGO_TARGET_DIR="$target_dir/lint-$sanitizer"
    cargo clippy -p bine-arch -p bine-runtime --all-targets -- -D warnings
    cargo clippy -p bine --test sanitizers -- -D warnings
done
