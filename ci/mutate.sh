#!/usr/bin/env bash
# Do the loom models bite? Weakens the protocols one place at a time, and expects a model to fail.
#
#   ci/mutate.sh [--list | --table] [--stop] [PATTERN...]
#
#   PATTERN   runs the mutations whose AREA/NAME contains one of these; all of them without any
#   --list    only names them
#   --table   prints them as the rows of a Markdown table, for loom-tests/README.md
#   --stop    ends at the first that does not fail as it says, instead of running them all
#
# A mutation is a file, loom-tests/mutations/AREA/NAME.patch: a few lines of header, an empty line,
# and a unified diff with paths from the root of the workspace (a/... and b/...):
#
#   model: idle::the_stop_flag_against_workers_that_fall_asleep
#   fails as: deadlock
#
# `model:` names a file of loom-tests/tests and a test of it, and stands there once for each model
# that must fail. `fails as:` is one of
#
#   deadlock    a wake-up is lost
#   causality   two threads reach a cell that nothing orders
#   count       searchers are counted wrongly
#   assertion   another assertion of the model, or of the code, fails
#   panic       it panics otherwise; as does an assertion with a message of its own, so that
#               one counts as the other
#   leak        something is never freed
#   endless     an execution does not end
#   abort       the process ends, mostly by a panic in a panic
#
# or several with commas, if it depends on the model. Two lines may follow: `preemptions: 3`
# (2 is the default) and `why: ...`, in one line.
#
# All happens in a copy of the tree, as it lies there, below the target directory. MUTATE_TIMEOUT
# bounds the run of one model, in seconds. Fails if a mutation survives, does not apply any more,
# does not build, or fails in another way than it says; and if a model fails without a mutation.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"

stop=false list=false table=false patterns=()
for argument in "$@"; do
    case "$argument" in
    -h | --help)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' ci/mutate.sh
        exit 0
        ;;
    --list) list=true ;;
    --table) table=true ;;
    --stop) stop=true ;;
    -*)
        echo "error: unknown option $argument; --help lists them" >&2
        exit 2
        ;;
    *) patterns+=("$argument") ;;
    esac
done

mutations=loom-tests/mutations
chosen=()
for file in "$mutations"/*/*.patch; do
    [[ -e "$file" ]] || continue
    id="${file#"$mutations"/}"
    id="${id%.patch}"
    [[ ${#patterns[@]} == 0 ]] && chosen+=("$id")
    for pattern in ${patterns[@]+"${patterns[@]}"}; do
        [[ "$id" == *"$pattern"* ]] && chosen+=("$id") && break
    done
done
if [[ ${#chosen[@]} == 0 ]]; then
    echo "error: no mutation has such a name" >&2
    exit 2
fi
if "$list"; then
    printf '%s\n' "${chosen[@]}"
    exit 0
fi

# The values of a key in a mutation's header, one in a line.
header() { sed -n "/^\$/q;s/^$2: *//p" "$mutations/$1.patch"; }

if "$table"; then
    for id in "${chosen[@]}"; do
        # shellcheck disable=SC2016 # the backticks are Markdown's
        printf '| `%s` | %s | %s |\n' "$id" \
            "$(header "$id" model | sed 's/.*/`&`/' | paste -sd ';' | sed 's/;/, /g')" \
            "$(header "$id" 'fails as')"
    done
    exit 0
fi

mkdir -p "$target_dir/mutate"
scratch="$(cd "$target_dir/mutate" && pwd)"
tree="$scratch/tree" before="$scratch/before"
export CARGO_TARGET_DIR="$scratch/target"
export RUSTFLAGS="--cfg bine_loom ${RUSTFLAGS:-}"
export RUST_BACKTRACE=0 CARGO_TERM_COLOR=never
# Almost all the time goes into building.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_OPT_LEVEL="${MUTATE_OPT_LEVEL:-1}"
# The copy is no repository, although it may lie in one.
export GIT_CEILING_DIRECTORIES="$scratch"

# Copies what differs, and nothing else: cargo goes by the times of the files.
copy_tree() {
    local file
    mkdir -p "$tree"
    git ls-files -z --cached --others --exclude-standard >"$scratch/files"
    while IFS= read -r -d '' file; do
        [[ -f "$file" ]] || continue
        cmp -s "$file" "$tree/$file" && continue
        mkdir -p "$(dirname "$tree/$file")"
        cp "$file" "$tree/$file"
    done <"$scratch/files"
    (cd "$tree" && find . -type f -printf '%P\0') | while IFS= read -r -d '' file; do
        [[ -f "$file" ]] || rm "$tree/$file"
    done
}

# Builds the test binaries of these models; fails if they do not build.
build() {
    local targets=() file
    while read -r file; do
        targets+=(--test "$file")
    done < <(printf '%s\n' "$@" | sed 's/::.*//' | sort -u)
    (cd "$tree" && cargo test -q -p bine-loom-tests --release --no-run "${targets[@]}") \
        >"$scratch/log" 2>&1
}

# Runs a model that is built and says how it ended: `passes`, `missing`, `timeout`, or as in
# `fails as:`.
run() {
    local model="$1" preemptions="$2" status=0
    (cd "$tree" && LOOM_MAX_PREEMPTIONS="$preemptions" \
        timeout --kill-after=10 "${MUTATE_TIMEOUT:-300}" \
        cargo test -q -p bine-loom-tests --release --test "${model%%::*}" -- \
        --exact "${model#*::}" --nocapture) >"$scratch/log" 2>&1 || status=$?
    if ((status == 124 || status == 137)); then
        echo timeout
    elif ((status == 0)); then
        if grep -q 'test result: ok. 1 passed' "$scratch/log"; then echo passes; else echo missing; fi
    else
        awk '
            found { next }
            /deadlock; threads/ { found = "deadlock" }
            /[Cc]ausality violation/ { found = "causality" }
            /a searcher too (many|few) is counted/ { found = "count" }
            /Model exeeded|Model exceeded|maximum number of branches/ { found = "endless" }
            /[Ll]eaked/ { found = "leak" }
            /assertion .*failed|assertion failed/ { found = "assertion" }
            /SIGABRT|SIGSEGV|SIGILL|SIGBUS/ { found = "abort" }
            /panicked at/ { panicked = 1 }
            END { print found ? found : panicked ? "panic" : "unknown" }
        ' "$scratch/log"
    fi
}

declare -A passing=()
# Whether a model passes without a mutation; looked up once. The unchanged tree must be built.
check_passing() {
    local key="$1 $2" how
    [[ -n "${passing[$key]:-}" ]] && return
    how="$(run "$1" "$2")"
    passing[$key]="$how"
    if [[ "$how" != passes ]]; then
        echo "error: $1 does not pass without a mutation, with $2 preemptions: $how" >&2
        tail -n 20 "$scratch/log" >&2
    fi
}

rows=() failures=0
# Notes how a mutation ended.
note() {
    rows+=("$(printf '%-9s %-58s %s' "$1" "$2" "$3")")
    printf '%s\n' "${rows[-1]}"
    if [[ "$1" != caught ]]; then
        ((++failures))
        "$stop" && finish
    fi
    return 0
}

finish() {
    printf '\n%s\n' "All of them:"
    printf '%s\n' "${rows[@]}"
    echo "$((${#rows[@]} - failures)) of ${#rows[@]} mutations were caught"
    ((failures == 0)) || exit 1
    exit 0
}

# Applies a mutation to the copy, keeping what it changes.
apply() {
    local file
    rm -rf "$before"
    mkdir -p "$before"
    while read -r file; do
        [[ -f "$tree/$file" ]] || return 1
        mkdir -p "$(dirname "$before/$file")"
        cp "$tree/$file" "$before/$file"
    done < <(changed_by "$1")
    (cd "$tree" && git apply --whitespace=nowarn "$mutations/$1.patch") >"$scratch/log" 2>&1
}

changed_by() { sed -n 's/^--- a\/\([^[:space:]]*\).*/\1/p' "$mutations/$1.patch"; }

revert() {
    local file
    while read -r file; do
        if [[ -f "$before/$file" ]]; then cp "$before/$file" "$tree/$file"; fi
    done < <(changed_by "$1")
}

# Tries a mutation. Its models have run without it.
try() {
    local id="$1" preemptions="$2" expected="$3" model how outcome=caught seen=()
    shift 3
    for model in "$@"; do
        if [[ "${passing[$model $preemptions]:-}" != passes ]]; then
            note broken "$id" "$model does not pass without the patch"
            return
        fi
    done
    if ! apply "$id"; then
        sed 's/^/    /' "$scratch/log" >&2
        revert "$id"
        note stale "$id" "the patch does not apply any more"
        return
    fi
    if ! build "$@"; then
        grep -m 3 -A 4 '^error' "$scratch/log" | sed 's/^/    /' >&2 || true
        revert "$id"
        note unbuilt "$id" "does not build with the patch"
        return
    fi
    for model in "$@"; do
        how="$(run "$model" "$preemptions")"
        seen+=("$model: $how")
        if [[ "$how" == passes ]]; then
            outcome=survives
        elif [[ "$outcome" == caught && ", ${expected//panic/assertion}," != *", ${how/panic/assertion},"* ]]; then
            outcome=differs
            tail -n 8 "$scratch/log" | sed 's/^/    /' >&2
        fi
    done
    revert "$id"
    printf -v seen '%s, ' "${seen[@]}"
    note "$outcome" "$id" "${seen%, }"
}

copy_tree
# What is edited from now on belongs to the next run.
mutations="$tree/$mutations"
all_models=()
for id in "${chosen[@]}"; do
    mapfile -t models < <(header "$id" model)
    if [[ ${#models[@]} == 0 || -z "$(header "$id" 'fails as')" ]]; then
        echo "error: $id.patch lacks a model or how it fails" >&2
        exit 2
    fi
    all_models+=("${models[@]}")
done
echo "${#chosen[@]} mutations; building the models without any"
if ! build "${all_models[@]}"; then
    cat "$scratch/log" >&2
    exit 1
fi
for id in "${chosen[@]}"; do
    preemptions="$(header "$id" preemptions)"
    while read -r model; do
        check_passing "$model" "${preemptions:-2}"
    done < <(header "$id" model)
done
echo "${#passing[@]} models have run without a mutation"
for id in "${chosen[@]}"; do
    mapfile -t models < <(header "$id" model)
    preemptions="$(header "$id" preemptions)"
    try "$id" "${preemptions:-2}" "$(header "$id" 'fails as')" "${models[@]}"
done
finish
