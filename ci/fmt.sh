#!/usr/bin/env bash
# The sources are formatted as rustfmt formats them.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

cargo fmt --version >/dev/null 2>&1 || missing "no rustfmt: rustup component add rustfmt"
cargo fmt --all --check
