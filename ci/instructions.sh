#!/usr/bin/env bash
# Counts the instructions of what is hot (switches, spawning, waking, locks, channels, timers) with callgrind,
# and compares with benches/instructions.txt: a rise over 5% fails. Counts repeat, times do not.
#
#   ci/instructions.sh             compares
#   ci/instructions.sh --update    stores what it counts
#
# Counts are kept for each target, with the toolchain that has compiled them. With another toolchain the bound
# is 25%, since no change of ours is needed for 5% then.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

command -v valgrind >/dev/null || install valgrind libc6-dbg ||
    missing "no valgrind: apt-get install valgrind libc6-dbg"

what=check
[[ "${1:-}" != --update ]] || what=record

cargo build --release -p bine-benches --no-default-features --bin uncontended
"$target_dir/release/uncontended" "$what" benches/instructions.txt
