#!/usr/bin/env bash
# All tests: the command of the README.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

cargo test --workspace
