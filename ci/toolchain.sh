#!/usr/bin/env bash
# Makes sure that the tools of the other steps exist, and installs only what is missing.
#
# rustfmt and clippy come through rustup. A linker for rustc, the clients that ci/examples.sh uses
# beside our own, the peers of the tests in tests/ecosystem, and the source of std for ci/tsan.sh, where
# rustup has none, come from the system: they are installed on the CI machine only.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

# The name of the rustup component for a cargo subcommand that does not work.
components=()
cargo fmt --version >/dev/null 2>&1 || components+=(rustfmt)
cargo clippy --version >/dev/null 2>&1 || components+=(clippy)
if ((${#components[@]} > 0)); then
    if command -v rustup >/dev/null; then
        rustup component add "${components[@]}" || missing "rustup cannot add ${components[*]}"
    else
        missing "no ${components[*]}, and no rustup to add them with"
    fi
fi

packages=()
command -v cc >/dev/null || packages+=(gcc libc6-dev)
command -v python3 >/dev/null || packages+=(python3)
command -v nc >/dev/null || packages+=(netcat-openbsd)
command -v curl >/dev/null || packages+=(curl)
command -v openssl >/dev/null || packages+=(openssl)
command -v gdb >/dev/null || packages+=(gdb)
command -v redis-server >/dev/null || packages+=(redis-server)
command -v redis-cli >/dev/null || packages+=(redis-tools)
has_websockets() { "$1" -c 'import websockets' 2>/dev/null; }
has_websockets python3 || has_websockets /usr/bin/python3 || packages+=(python3 python3-websockets)
if ((${#packages[@]} > 0)); then
    if [[ "${CI:-}" == true && "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
        install "${packages[@]}" || missing "apt-get cannot install ${packages[*]}"
    else
        echo "not installed: ${packages[*]}"
    fi
fi

# What ci/tsan.sh compiles std from; it says itself what is missing.
source=lib/rustlib/src/rust/library
if [[ "${CI:-}" == true && ! -d "$(rustc --print sysroot)/$source" && ! -d "/usr/$source" ]]; then
    rustup component add rust-src 2>/dev/null ||
        install rustc-web rust-web-src ||
        echo "not installed: the source of std" >&2
fi
command -v cc >/dev/null || missing "rustc needs a C compiler to link with"

rustc --version
cargo --version
cargo fmt --version
cargo clippy --version
