#!/usr/bin/env bash
# The tests under the thread sanitizer.
#
# std must be compiled for it, too: what its locks and its `thread::park` order would otherwise be
# reported as races. That takes its source: of the toolchain that is used (`rustup component add
# rust-src`), or else Debian's compiler with its source (rustc-web, rust-web-src), and then the
# toolchain gives the sanitizer's runtime only. TSAN_TIMEOUT bounds the run, in seconds.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"
# shellcheck source=ci/sanitizer.sh
source ci/sanitizer.sh thread

# shellcheck disable=SC2154 # set by ci/sanitizer.sh
skipped+=(
    "a_handler_of_one_argument_may_repair_the_fault: the sanitizer calls handlers with a mask of its own"
    "a_handler_of_three_arguments_may_repair_the_fault: the same"
)

has_source() { [[ -f "$1/lib/rustlib/src/rust/library/Cargo.lock" ]]; }

llvm() { "$1" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'; }

if ! has_source "$sysroot"; then
    debian=/usr/bin/rustc
    { [[ -x "$debian" ]] && has_source "$("$debian" --print sysroot)"; } ||
        missing "no source of std: rustup component add rust-src, or Debian's rustc-web and rust-web-src"
    [[ "$(llvm "$debian")" == "$(llvm rustc)" ]] ||
        missing "$debian and the sanitizer's runtime are of different versions of LLVM"
    export RUSTC="$debian"
    # shellcheck disable=SC2054 # the commas are the linker's
    flags+=(-Zexternal-clangrt -Zpre-link-arg=-Wl,--whole-archive "-Zpre-link-arg=$runtime"
        -Zpre-link-arg=-Wl,--no-whole-archive -Clink-arg=-lm)
fi
arguments+=(-Zbuild-std)
build

TSAN_OPTIONS="$tool_options:suppressions=$PWD/ci/tsan-suppressions.txt" run_tests "${TSAN_TIMEOUT:-400}"
