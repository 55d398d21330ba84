#!/usr/bin/env bash
# All tests: the command of the README. Those that need a program which is not there say so and pass; on
# the CI machine, where ci/toolchain.sh installs these, they fail.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

if [[ "${CI:-}" == true ]]; then
    export BINE_TEST_PEERS="${BINE_TEST_PEERS:-required}"
fi
cargo test --workspace
