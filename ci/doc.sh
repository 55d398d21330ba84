#!/usr/bin/env bash
# The documentation builds without warnings: no broken links, nothing public without words. What its
# examples claim is so.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

RUSTDOCFLAGS="-D warnings ${RUSTDOCFLAGS:-}" cargo doc --workspace --no-deps

# The examples, once more with an unstable rustdoc: only that one looks whether what must not compile
# fails with the error that its documentation names. There is no such thing in docs/ecosystem.md.
RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$target_dir/doctest" cargo test --workspace --exclude bine-ecosystem --doc
