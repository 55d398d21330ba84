#!/usr/bin/env bash
# The tests under the address sanitizer: twice, once in search of uses after return, once of leaks.
#
# The two exclude each other: the leak sanitizer does not see what the fake stacks of suspended
# green threads hold (arch/src/fiber.rs). ASAN_TIMEOUT bounds each of the runs, in seconds.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"
# shellcheck source=ci/sanitizer.sh
source ci/sanitizer.sh address

skipped+=("a_childs_child: stands still now and then in this build, under load; not explained yet")

# std itself stays as it is: what it allocates is checked, its own accesses are not.
flags+=(-Cunsafe-allow-abi-mismatch=sanitizer)
build

run_with() {
    echo "-- $1"
    ASAN_OPTIONS="$tool_options:$1" run_tests "${ASAN_TIMEOUT:-400}"
}

run_with detect_stack_use_after_return=1:detect_leaks=0
skipped+=(
    "no_payload_keeps_a_scope_from_unwinding_all: bine forgets a payload that cannot be dropped"
    "the_scope_waits_for_forgotten_and_nested_children: the test forgets handles, and their threads with them"
    "no_scope_ends_before_its_children: the same"
    "a_message_that_panics_when_dropped_leaks_the_rest: what it says"
    "a_panic_at_the_stop_is_ignored: bine forgets what comes of a payload that panics when it is dropped"
    "one_with_room_is_left_in_force: the test leaks a signal stack, which may still be in use"
)
run_with detect_stack_use_after_return=0:detect_leaks=1
