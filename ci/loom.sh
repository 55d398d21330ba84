#!/usr/bin/env bash
# The loom models of every protocol.
#
# LOOM_MAX_PREEMPTIONS bounds how often a model switches threads where it need not. 2 finds most
# mistakes and is done in minutes; raise it for a longer search.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

export RUSTFLAGS="--cfg bine_loom ${RUSTFLAGS:-}"
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"
export CARGO_TARGET_DIR="$target_dir/loom"
# Most of the time goes into building the models.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

cargo test -p bine-loom-tests --release --no-run
timeout --kill-after=10 "${LOOM_TIMEOUT:-600}" cargo test -p bine-loom-tests --release || {
    status=$?
    ((status == 124)) && echo "error: the models took more than ${LOOM_TIMEOUT:-600} s" >&2
    exit "$status"
}
