#!/usr/bin/env bash
# The loom models of every protocol.
#
# LOOM_MAX_PREEMPTIONS bounds how often a model switches threads where it need not. 2 finds most
# mistakes and is done in minutes; raise it for a longer search. With --long it is 3, for releases.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

if [[ "${1:-}" == --long ]]; then
    export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}" LOOM_TIMEOUT="${LOOM_TIMEOUT:-14400}"
fi

export RUSTFLAGS="--cfg bine_loom ${RUSTFLAGS:-}"
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"
export CARGO_TARGET_DIR="$target_dir/loom"
# Most of the time goes into building the models.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

models=(-p bine-loom-tests -p bine-model-examples --release)

cargo test "${models[@]}" --no-run
timeout --kill-after=10 "${LOOM_TIMEOUT:-600}" cargo test "${models[@]}" || {
    status=$?
    ((status == 124)) && echo "error: the models took more than ${LOOM_TIMEOUT:-600} s" >&2
    exit "$status"
}

# Sockets are absent, and the compiler says so.
if messages="$(cargo check -p bine-model-examples --release --example sockets --features sockets 2>&1)"; then
    echo "error: a program with sockets compiles under --cfg bine_loom" >&2
    exit 1
fi
sockets="$(grep -c '^error.*: there are no sockets and no signals under `--cfg bine_loom`' <<<"$messages")" || true
timeouts="$(grep -c '^error.*: there is neither `timeout` nor `interval` under `--cfg bine_loom`' <<<"$messages")" || true
if ((sockets != 4 || timeouts != 1)); then
    echo "error: the compiler does not say that sockets and timeouts are absent, but:" >&2
    echo "$messages" >&2
    exit 1
fi
