#!/usr/bin/env bash
# Builds the lower crates for the other architectures, and runs their tests under qemu's user mode.
# Before that, the tests of registers here: optimised, as there, since only then values live in
# registers.
#
# Debug assertions stay on. Left out are the doc tests and the models, which say nothing about an
# architecture; the macros, which run on the build machine; and the tests of the facade, which
# measure idle CPU and load: an emulator has times of its own.
#
#   ci/cross.sh              all architectures
#   ci/cross.sh riscv64      only this one
#   ci/cross.sh --all        what is left out for the second, too: sync, io and most of runtime, of which
#                            nothing is written for an architecture
#
# BINE_TEST_SWITCHES sets the length of the tests of registers; CROSS_TIMEOUT bounds each build and
# each crate's tests, in seconds.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

architectures=(aarch64 riscv64)
all=false
if [[ "${1:-}" == --all ]]; then
    all=true
    shift
fi
if (($# > 0)); then
    all=true
    architectures=("$@")
fi

export CARGO_PROFILE_DEV_OPT_LEVEL=2
# Enough for a backtrace to name inlined functions with their paths, as tests want it to; line tables
# are not.
export CARGO_PROFILE_DEV_DEBUG=limited

bounded() { timeout --kill-after=10 "${CROSS_TIMEOUT:-600}" "$@"; }

# The target of rustc for an architecture.
target_of() {
    case "$1" in
        aarch64) echo aarch64-unknown-linux-gnu ;;
        riscv64) echo riscv64gc-unknown-linux-gnu ;;
        *)
            echo "error: no architecture $1 here" >&2
            exit 2
            ;;
    esac
}

# The cross compiler's C library, which is also the one that the tests run with.
libraries_of() { echo "/usr/$1-linux-gnu/lib"; }

# An emulator, a linker, and a C library with what linking needs.
has_tools() {
    command -v "qemu-$1" >/dev/null && command -v "$1-linux-gnu-gcc" >/dev/null &&
        [[ -e "$(libraries_of "$1")/crt1.o" ]]
}

packages_for() {
    local debian="${1/aarch64/arm64}"
    echo qemu-user "gcc-$1-linux-gnu" "libc6-dev-$debian-cross"
}

has_std() { compgen -G "$(rustc --print target-libdir --target "$1")/libstd-*.rlib" >/dev/null; }

# Debian has a compiler with std's source: it builds std where rustup cannot have one ready.
debian_rustc=/usr/bin/rustc
std_source=/usr/lib/rustlib/src/rust/library/Cargo.toml

# Sets `build`, the options of cargo that make std available to the target $1.
prepare_std() {
    build=(--target "$1")
    if has_std "$1" || { command -v rustup >/dev/null && bounded rustup target add "$1"; }; then
        return 0
    fi
    [[ -x "$debian_rustc" && -e "$std_source" ]] || install rustc-web rust-web-src || return 1
    echo "std is built from Debian's source"
    export RUSTC="$debian_rustc" RUSTC_BOOTSTRAP=1
    build+=(-Zbuild-std)
}

# In a subshell: what is exported is for one architecture.
test_under_emulator() (
    arch="$1"
    target="$(target_of "$arch")"
    libraries="$(libraries_of "$arch")"
    prepare_std "$target" || missing "no std for $target: rustup target add $target"

    # The loader and the libraries by their full names. qemu's -L would send it to these
    # directories, too, but mixes them with others where the system has a C library for $arch of
    # its own, and two builds of one C library do not work together.
    loaders=("$libraries"/ld-linux-*.so.1)
    link="-Clink-arg=-Wl,--dynamic-linker=${loaders[0]} -Clink-arg=-Wl,-rpath,$libraries"
    # With --target, these are not for build scripts.
    export RUSTFLAGS="-Clinker=$arch-linux-gnu-gcc $link ${RUSTFLAGS:-}"
    variable="CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUNNER"
    export "$variable=qemu-$arch"
    export BINE_TEST_RUNNER="qemu-$arch"

    if "$all" || [[ "$arch" == "${architectures[0]}" ]]; then
        packages=(bine-arch bine-runtime bine-sync bine-io)
        runtime_tests=(--tests)
    else
        packages=(bine-arch bine-runtime)
        # Those in which switches, stacks, unwinding or thread-locals take part.
        runtime_tests=()
        for name in cancel locals locals_of_coroutines overflow threads unwinding; do
            runtime_tests+=(--test "$name")
        done
    fi
    tests_of() {
        tests=(-p "$1" --lib --tests)
        [[ "$1" != bine-runtime ]] || tests=(-p "$1" --lib "${runtime_tests[@]}")
    }
    for package in "${packages[@]}"; do
        tests_of "$package"
        bounded cargo test -q "${build[@]}" "${tests[@]}" --no-run
        echo "-- $arch: $package built after $SECONDS s"
    done
    for package in "${packages[@]}"; do
        echo "-- $package on $arch"
        tests_of "$package"
        bounded cargo test -q "${build[@]}" "${tests[@]}"
        echo "-- $arch: $package done after $SECONDS s"
    done
)

export CARGO_TARGET_DIR="$target_dir/cross"
echo "-- registers on $(uname -m), optimised"
bounded cargo test -q -p bine-arch --test registers

for arch in "${architectures[@]}"; do
    target_of "$arch" >/dev/null
    if ! has_tools "$arch"; then
        read -ra packages <<<"$(packages_for "$arch")"
        if ! install "${packages[@]}" || ! has_tools "$arch"; then
            if [[ "${CI:-}" == true ]]; then
                missing "no tools for $arch: apt-get cannot install ${packages[*]}"
            fi
            echo "skipped: $arch, which needs ${packages[*]}"
            continue
        fi
    fi
    started=$SECONDS
    test_under_emulator "$arch"
    echo "-- $arch: $((SECONDS - started)) s"
done
