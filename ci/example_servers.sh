# shellcheck shell=bash
# How ci/examples.sh tries the chat server, the HTTP server and the proxy with clients that know nothing
# of bine: sourced by it, not run. Each check names what it expects; nothing is measured.

# Whether the client $1 is there. On the CI machine it has to be.
have() {
    command -v "$1" >/dev/null && return
    [[ "${CI:-}" != true ]] || fail "no $1: ci/toolchain.sh should have installed it"
    echo "skipped: no $1"
    return 1
}

# Opens a connection to the server as the descriptor $1.
dial() { eval "exec $1<>/dev/tcp/127.0.0.1/$port" || fail "cannot connect to port $port"; }
hang_up() { eval "exec $1>&-"; }

# Reads lines from the descriptor $1 until one contains $2.
hear() {
    local line
    while IFS= read -r -t 60 -u "$1" line; do
        [[ "$line" != *"$2"* ]] || return 0
    done
    fail "nobody said: $2"
}

# The rest of what the descriptor $1 brings, up to its end, contains $2.
hear_to_the_end() {
    local rest
    rest="$(timeout 60 cat <&"$1")" || fail "no end after: $2"
    [[ "$rest" == *"$2"* ]] || fail "not $2, but: $rest"
}

web() { curl -sS --max-time 60 "$@"; }

talk_curl() {
    have curl || return 0
    local url="http://127.0.0.1:$port" blob="$work/blob" reply
    head -c 900000 /dev/urandom >"$blob"
    [[ "$(web "$url/healthz")" == ok ]] || fail "/healthz is not ok"
    [[ "$(web --http1.0 "$url/plaintext")" == "Hello, World!" ]] || fail "HTTP/1.0 does not work"
    reply="$(web -I "$url/plaintext")"
    [[ "$reply" == *"Content-Length: 13"* ]] || fail "HEAD gives: $reply"
    [[ "$(web "$url/")" == *"</html>"* ]] || fail "the page is not whole"
    # The second one opens no connection.
    reply="$(web -o /dev/null -o /dev/null -w '%{num_connects} ' "$url/plaintext" "$url/stats")"
    [[ "$reply" == "1 0 " ]] || fail "the connection was not kept: $reply"
    web --data-binary @"$blob" "$url/echo" | cmp - "$blob" || fail "the body has changed"
    web -H 'Transfer-Encoding: chunked' --data-binary @"$blob" "$url/echo" | cmp - "$blob" ||
        fail "the chunked body has changed"
    web -H 'Expect: 100-continue' --data-binary @"$blob" "$url/echo" | cmp - "$blob" ||
        fail "the body that was waited for has changed"
    cat "$blob" "$blob" >"$work/blobs"
    reply="$(web -o /dev/null -w '%{http_code}' --data-binary @"$work/blobs" "$url/echo")"
    [[ "$reply" == 413 ]] || fail "a large body gives $reply"
    echo "curl: all is as it should be"
}

talk_pipelined() {
    have nc || return 0
    local reply request='GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n'
    # shellcheck disable=SC2059 # the format is the request
    reply="$(printf "$request$request$request" | talk_through_nc)" || fail "nc failed"
    [[ "$(grep -o 'Hello, World!' <<<"$reply" | wc -l)" == 3 ]] || fail "nc got back: $reply"
    echo "nc: three answers to three requests at once"
}

talk_wrk() {
    command -v wrk >/dev/null || return 0
    local report
    report="$(wrk -t 1 -c 100 -d 2 "http://127.0.0.1:$port/plaintext")" || fail "wrk failed"
    if grep -E 'Socket errors|Non-2xx' <<<"$report"; then fail "wrk has seen errors"; fi
    grep 'requests in' <<<"$report"
}

# More clients than the server has descriptors for are served one after the other.
talk_in_a_crowd() {
    have python3 || return 0
    python3 - "$port" <<'END' || fail "not everybody in a crowd is served"
import socket, sys
clients = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) for _ in range(100)]
for client in clients:
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
for client in clients:
    with client.makefile("rb") as reply:
        assert reply.read().endswith(b"\r\n\r\nok\n")
    client.close()
END
    echo "python: all of a crowd are served"
}

try_http_server() {
    for mode in "" --migrate; do
        start_server http_server --host 127.0.0.1 --port 0 ${mode:+"$mode"}
        talk_curl
        talk_pipelined
        talk_wrk
        # One connection is idle when SIGTERM comes, and one in the midst of a request.
        dial 7
        printf 'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n' >&7
        hear 7 ok
        dial 8
        printf 'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n' >&8
        hear 8 "100 Continue"
        kill -TERM "$server"
        hear_to_the_end 7 ""
        printf 'hello' >&8
        hear_to_the_end 8 hello
        hang_up 7
        hang_up 8
        await_end_of_server
    done

    echo "-- http_server, with few descriptors"
    # Runs in the background, and so in a shell of its own, which becomes the server.
    few() { ulimit -n 40 && exec "$examples/http_server" "$@"; }
    start_command few --host 127.0.0.1 --port 0
    talk_in_a_crowd
    grep -q "cannot accept" "$work/stderr.log" || fail "40 descriptors were enough"
    await "others are served" talk_after_a_crowd
    stop_server
}

talk_after_a_crowd() {
    command -v curl >/dev/null || return 0
    [[ "$(web "http://127.0.0.1:$port/healthz")" == ok ]]
}

try_chat_server() {
    for mode in "" --migrate; do
        start_server chat_server --host 127.0.0.1 --port 0 ${mode:+"$mode"}
        dial 7
        hear 7 "welcome"
        if have nc; then
            printf '/nick nc\nhello from nc\n/who\n' | talk_through_nc >"$work/nc.log" || fail "nc failed"
            grep -qx '<nc> hello from nc' "$work/nc.log" || fail "nc does not hear itself"
            grep -q 'good-bye' "$work/nc.log" || fail "nc is not told good-bye"
            hear 7 "<nc> hello from nc"
            hear 7 "nc left: good-bye"
            echo "nc: it is heard, and hears"
        fi
        kill -TERM "$server"
        hear_to_the_end 7 "the server stops"
        hang_up 7
        await_end_of_server
    done
}

# A proxy in front of the server that runs, with the clients of that. The arguments are theirs.
through_proxy() {
    local target="$port"
    backend="$server"
    start_server proxy 127.0.0.1:0 "127.0.0.1:$target" ${mode:+"$mode"}
    "$@"
    kill -USR1 "$server"
    await "the proxy tells its statistics" log_has 1 "127.0.0.1:$target: "
    stop_server
    server="$backend"
    port="$target"
    backend=""
}

talk_tls() {
    have openssl || return 0
    local reply
    reply="$(printf 'GET / HTTP/1.0\r\n\r\n' |
        timeout 60 openssl s_client -quiet -connect "127.0.0.1:$port" 2>/dev/null)" || fail "s_client failed"
    [[ "$reply" == *"s_server"* ]] || fail "s_client got back: $reply"
    echo "openssl: a page through TLS"
}

tls_server_listens() {
    server_runs || fail "openssl s_server has ended"
    port="$(sed -n 's/^ACCEPT .*:\([0-9][0-9]*\).*/\1/p' "$work/tls.log")"
    [[ -n "$port" ]]
}

start_tls_server() {
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 1 \
        -keyout "$work/key.pem" -out "$work/certificate.pem" 2>/dev/null || fail "openssl makes no key"
    openssl s_server -accept 127.0.0.1:0 -key "$work/key.pem" -cert "$work/certificate.pem" -www \
        >"$work/tls.log" 2>&1 &
    server=$!
    await "openssl s_server listens" tls_server_listens
}

try_proxy() {
    for mode in "" --migrate; do
        start_server echo_server --host 127.0.0.1 --port 0 --quiet
        through_proxy talk_python
        through_proxy talk_nc
        through_proxy load
        await_end_on INT
        start_server http_server --host 127.0.0.1 --port 0
        through_proxy talk_curl
        await_end_on TERM
    done
    if have openssl; then
        start_tls_server
        mode=""
        through_proxy talk_tls
        kill "$server"
        wait "$server" || true
        server=""
    fi
}

await_end_on() {
    kill "-$1" "$server"
    await_end_of_server
}
