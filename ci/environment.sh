# shellcheck shell=bash
# What every step needs: sourced by the scripts in this directory, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Incremental builds cost time and space where each crate is built once.
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
export RUST_BACKTRACE="${RUST_BACKTRACE:-1}"

# The directory that cargo builds into.
# shellcheck disable=SC2034 # the scripts that source this use it
target_dir="${CARGO_TARGET_DIR:-target}"

# Installs Debian's packages, on the CI machine only.
install() {
    [[ "${CI:-}" == true && "$(id -u)" == 0 ]] && command -v apt-get >/dev/null || return 1
    export DEBIAN_FRONTEND=noninteractive
    # One step at a time.
    local turn
    exec {turn}>"${TMPDIR:-/tmp}/bine-ci-apt.lock"
    flock "$turn"
    apt-get update -qq || echo "warning: apt-get cannot update its lists" >&2
    local status=0
    apt-get install -y -qq --no-install-recommends "$@" || status=$?
    exec {turn}>&-
    return "$status"
}

# Ends the step because a tool is missing: as a failure on the CI machine, and as a success with a
# message elsewhere.
missing() {
    if [[ "${CI:-}" == true ]]; then
        echo "error: $*" >&2
        exit 1
    fi
    echo "skipped: $*"
    exit 0
}
