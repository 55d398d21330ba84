# shellcheck shell=bash
# What ci/asan.sh and ci/tsan.sh share: sourced by them with "address" or "thread", not run.

sanitizer="$1"

# A target that is named has the flags apply to what is tested, and not to build scripts.
target="$(rustc -vV | sed -n 's/^host: //p')"
sysroot="$(rustc --print sysroot)"
short="${sanitizer:0:1}san"
runtimes=("$sysroot/lib/rustlib/$target/lib"/librustc*_rt."$short".a)
# shellcheck disable=SC2034 # ci/tsan.sh uses it
runtime="${runtimes[0]}"
[[ -f "$runtime" ]] || missing "this toolchain has no runtime of the $sanitizer sanitizer"

# The switches of a stable compiler that are not stable. Optimised a little: half the time.
export RUSTC_BOOTSTRAP=1
export CARGO_PROFILE_DEV_OPT_LEVEL=1
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
# shellcheck disable=SC2154 # set by ci/environment.sh
export CARGO_TARGET_DIR="$target_dir/$short"
flags=("-Zsanitizer=$sanitizer" "--cfg=bine_sanitize=\"$sanitizer\"" -Cforce-frame-pointers=yes)

# An overflowed stack is bine's to report, on a signal stack of bine's, which tests look at: none of the
# sanitizer's is to be in its place. addr2line is asked for names where there is no llvm-symbolizer.
# shellcheck disable=SC2034 # the scripts that source this use it
tool_options=handle_segv=0:handle_sigbus=0:use_sigaltstack=0:allow_addr2line=1

# Not the models, where loom stands in for threads and atomics; not the benchmarks, which only
# measure; and not what runs on other people's crates, which would have to be built as well. The examples in the
# documentation run in the step "test".
arguments=(--workspace --exclude bine-loom-tests --exclude bine-benches --exclude bine-ecosystem --lib --tests
    --target "$target")

# Tests that cannot pass, with the reason.
skipped=(
    "address_space_may_be_limited: the sanitizer's own memory does not fit into the limit"
    "large_classes_take_what_there_is: the same"
    "a_cache_uses_its_own_reserve_up: the same"
    "scarce_address_space_is_shared: the same"
    "no_address_space_for_stacks_is_an_error_of_the_spawn: the same"
    "no_address_space_for_workers_is_an_error_of_the_build: the same"
    "no_address_space_for_the_poller_is_an_error_of_the_operation: the same"
    "a_refused_thread_is_done_without: the same"
    "a_large_frame_is_reported: instrumented code does not touch the pages of a frame in turn"
    "a_short_backtrace: line tables alone give the names of inlined functions without their paths"
    "a_full_backtrace: the same"
    "an_idle_server_in: it does nothing for many seconds, which the step \"test\" looks at"
    "a_real_depth_is_found: instrumented code keeps locals elsewhere, or more room around them"
)

build() {
    export RUSTFLAGS="${flags[*]} ${RUSTFLAGS:-}"
    cargo test "${arguments[@]}" --no-run --quiet
    echo "-- built after $SECONDS s"
}

# Runs what was built, for at most $1 seconds.
run_tests() {
    local skip=() test
    for test in "${skipped[@]}"; do
        echo "skipped: $test"
        skip+=(--skip "${test%%:*}")
    done
    timeout --kill-after=10 "$1" cargo test "${arguments[@]}" --no-fail-fast -- "${skip[@]}"
}
