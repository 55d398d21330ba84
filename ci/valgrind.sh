#!/usr/bin/env bash
# The tests of switches and stacks under valgrind's memcheck, which must know each stack (see
# arch/src/valgrind.rs): else it takes a switch for a huge frame, and reports what is no error.
#
# All test binaries of bine-arch run but those that are excluded below, each for at most
# VALGRIND_TIMEOUT seconds.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

# Valgrind wants the symbols of the C library's loader.
command -v valgrind >/dev/null || install valgrind libc6-dbg ||
    missing "no valgrind: apt-get install valgrind libc6-dbg"

# Says why a test binary is left out, if it is.
excluded() {
    case "$1" in
        guards | limits | trim | overflow | coroutine_overflow)
            echo "its tests run in child processes, without valgrind"
            ;;
        alternate_stack) echo "it looks at the signal stacks of the process, which are valgrind's here" ;;
        many_stacks) echo "guards by mprotect, which are all that valgrind knows, end at 31,000" ;;
        usage) echo "it reads what lies below a stack pointer, and memcheck reports that" ;;
        *) return 1 ;;
    esac
}

# With so many rounds the walk of coroutine_torture takes seconds. The other walks have fewer by
# themselves.
torture_rounds="${BINE_TORTURE_ROUNDS:-8000}"
export BINE_TEST_SWITCHES="${BINE_TEST_SWITCHES:-100000}"

# Tests that are left out of the others.
skip=(
    # Half a minute of switches; the other tests make the same ones.
    --skip live_values_survive_millions_of_switches
    # Ten thousand guards, of the 14,000 for which valgrind has room; the others need the rest.
    --skip one_after_the_other_uses_one_stack
    # It reads whole frames, what was never written among them.
    --skip frames::tests::hold_the_variables
)

messages="$(cargo test -p bine-arch --tests --no-run --message-format=json)"
mapfile -t binaries < <(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$messages" | sort)
((${#binaries[@]} > 0)) || {
    echo "error: cargo names no test binaries" >&2
    exit 1
}

run=0
for binary in "${binaries[@]}"; do
    name="$(basename "$binary")"
    name="${name%-*}"
    if reason="$(excluded "$name")"; then
        echo "-- $name: left out: $reason"
        continue
    fi
    echo "-- $name"
    settings=()
    [[ "$name" != coroutine_torture ]] || settings=("BINE_TORTURE_ROUNDS=$torture_rounds")
    env "${settings[@]}" timeout --kill-after=10 "${VALGRIND_TIMEOUT:-300}" \
        valgrind --quiet --error-exitcode=9 --track-origins=no \
        "$binary" --test-threads=1 "${skip[@]}" || {
        status=$?
        ((status == 9)) && echo "error: memcheck has errors in $name" >&2
        ((status == 124)) && echo "error: $name took more than ${VALGRIND_TIMEOUT:-300} s" >&2
        exit "$status"
    }
    run=$((run + 1))
done
echo "$run of ${#binaries[@]} test binaries without an error of memcheck"
