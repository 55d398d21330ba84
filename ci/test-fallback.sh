#!/usr/bin/env bash
# The tests of stacks and of the scheduler, with the guard pages of kernels before Linux 6.13.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

BINE_STACK_GUARD=mprotect cargo test -p bine-arch -p bine-runtime
