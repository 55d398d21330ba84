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

# std itself stays as it is: what it allocates is checked, its own accesses are not.
flags+=(-Cunsafe-allow-abi-mismatch=sanitizer)
build

for options in detect_stack_use_after_return=1:detect_leaks=0 \
    detect_stack_use_after_return=0:detect_leaks=1; do
    echo "-- $options"
    ASAN_OPTIONS="$tool_options:$options" run_tests "${ASAN_TIMEOUT:-400}"
done
