#!/usr/bin/env bash
# Builds the examples in release mode and runs them: those that end by themselves, whose output their
# tests compare; the echo server with our own load client, a Python program and nc (where they
# are installed), in both migration modes, which then ends on Ctrl-C; and the servers of
# ci/example_servers.sh.
#
# ECHO_CONNECTIONS and ECHO_SECONDS set the load.
set -euo pipefail
# shellcheck source=ci/environment.sh
source "$(dirname "$0")/environment.sh"
# shellcheck source=ci/example_servers.sh
source ci/example_servers.sh

cargo build --release --examples

examples="$target_dir/release/examples"
work="$(mktemp -d)"
server=""
# The server behind the server, where that is a proxy.
backend=""
end_servers() {
    local process
    for process in $server $backend; do
        kill -KILL "$process" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end_servers EXIT

fail() {
    echo "error: $*" >&2
    for log in "$work"/*.log; do
        echo "--- the last lines of $(basename "$log"):" >&2
        tail -n 20 "$log" | cut -c -160 >&2
    done
    exit 1
}

# Waits until a command succeeds. The bound is there for a server that hangs: nothing is measured.
await() {
    local what="$1"
    shift
    for _ in {1..600}; do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    fail "waited 60 s in vain until $what"
}

server_runs() { kill -0 "$server" 2>/dev/null; }
server_has_ended() { ! server_runs; }
server_has_told_its_port() {
    server_runs || fail "the server ended before it listened"
    port="$(sed -n 's/.*listening on .*:\([0-9][0-9]*\).*/\1/p' "$work/stdout.log" | head -n 1)"
    [[ -n "$port" ]]
}

# Starts the example $1 with these arguments.
start_server() {
    echo "-- $*"
    start_command "$examples/$1" "${@:2}"
}

start_command() {
    # Here, not with the server, which starts later: the last one's port must be gone.
    : >"$work/stdout.log"
    "$@" >"$work/stdout.log" 2>"$work/stderr.log" &
    server=$!
    port=""
    await "the server listens" server_has_told_its_port
}

# Ctrl-C, as the terminal would send it. The server must end on its own, and as a success.
stop_server() {
    server_runs || fail "the server ended before Ctrl-C"
    kill -INT "$server"
    await_end_of_server
}

await_end_of_server() {
    await "the server ends after a signal" server_has_ended
    local status=0
    wait "$server" || status=$?
    server=""
    ((status == 0)) || fail "the server ended with status $status after a signal"
    if grep -q panicked "$work/stderr.log"; then fail "something panicked in the server"; fi
}

# The server has written at least $1 lines that contain $2.
log_has() { (($(grep -cF -- "$2" "$work/stdout.log") >= $1)); }

talk_python() {
    if ! command -v python3 >/dev/null; then
        echo "skipped: no python3"
        return
    fi
    client="$(python3 ci/echo_client.py 127.0.0.1 "$port")" || fail "the Python client failed"
    echo "python: every byte came back"
}

# Sends the input, ends that direction, and prints what comes back.
talk_through_nc() {
    # How nc is told to close its sending side at the end of its input differs.
    local options=()
    case "$(nc -h 2>&1 || true)" in
        *OpenBSD* | *"-N"*) options=(-N) ;;
        *"-q "*) options=(-q 60) ;;
    esac
    timeout 60 nc "${options[@]}" 127.0.0.1 "$port"
}

talk_nc() {
    if ! command -v nc >/dev/null; then
        echo "skipped: no nc"
        return
    fi
    local reply
    reply="$(printf 'hello-from-nc\n' | talk_through_nc)" || fail "nc failed"
    [[ "$reply" == hello-from-nc ]] || fail "nc got back: $reply"
    echo "nc: the line came back"
}

load() {
    timeout 120 "$examples/echo_load" --host 127.0.0.1 --port "$port" \
        --connections "${ECHO_CONNECTIONS:-300}" --seconds "${ECHO_SECONDS:-3}" --size 64 ||
        fail "echo_load failed"
}

# The examples that end by themselves.
for name in generators pipeline infinite_list recover event_loop migration make_random ticker gather; do
    echo "-- $name"
    timeout 120 "$examples/$name" >"$work/$name.log" || fail "$name ended with status $?"
    [[ -s "$work/$name.log" ]] || fail "$name wrote nothing"
done

# The same seed, the same numbers, whoever runs when.
"$examples/make_random" --pause 1 | cmp - "$work/make_random.log" || fail "make_random does not repeat itself"

# What the server writes of its clients.
start_server echo_server --host 127.0.0.1 --port 0
client=""
talk_python
talk_nc
if [[ -n "$client" ]]; then
    await "the server tells of its clients" log_has 2 "$client"
    log_has 1 hello-from-python || fail "the server does not show what it received"
fi
stop_server

# Many clients, with the server silent.
for mode in "" --migrate; do
    start_server echo_server --host 127.0.0.1 --port 0 --quiet ${mode:+"$mode"}
    load
    talk_python
    stop_server
done

try_http_server
try_chat_server
try_proxy
