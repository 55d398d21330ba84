// HTTP/1.1 plaintext, twice.
//
// serveHTTP is the work of src/http/mod.rs: a goroutine for each connection, which reads into a
// buffer of 4 KiB, takes the complete requests apart, appends an answer for each to a second buffer
// and writes those at once. As httparse does, it looks at every header; there is none for Go.
//
// serveNetHTTP is Go's own server with a handler that sets the same headers. It does more: contexts,
// timeouts, header maps, bodies. It writes Date and Content-Length by itself.
package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	bufferSize = 4 << 10
	head       = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: "
	tail       = "\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
)

// Seconds since 1970, kept by startClock.
var now atomic.Int64

func startClock() {
	now.Store(time.Now().Unix())
	go func() {
		for {
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
			now.Store(time.Now().Unix())
		}
	}()
}

func serveHTTP(listener net.Listener) {
	startClock()
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go converse(connection)
	}
}

func converse(connection net.Conn) {
	defer connection.Close()
	input, filled := make([]byte, bufferSize), 0
	output := make([]byte, 0, bufferSize)
	var answer []byte
	asOf := int64(-1)
	for {
		length, err := connection.Read(input[filled:])
		if err != nil {
			return
		}
		filled += length
		if second := now.Load(); second != asOf {
			asOf = second
			answer = append(answer[:0], head...)
			answer = time.Unix(second, 0).UTC().AppendFormat(answer, http.TimeFormat)
			answer = append(answer, tail...)
		}
		output = output[:0]
		taken := 0
		for {
			request, ok := requestLength(input[taken:filled])
			if !ok {
				return
			}
			if request == 0 {
				break
			}
			taken += request
			output = append(output, answer...)
		}
		filled = copy(input, input[taken:filled])
		if filled == len(input) {
			return
		}
		if len(output) == 0 {
			continue
		}
		if _, err := connection.Write(output); err != nil {
			return
		}
	}
}

var (
	lineEnd     = []byte("\r\n")
	requestLine = []byte("GET / HTTP/1.1")
)

// requestLength returns how long the first request of the input is, 0 if it is not complete, and
// whether it may be one: a "GET /" whose headers have names of the right bytes and values without
// control characters.
func requestLength(input []byte) (int, bool) {
	end := bytes.Index(input, lineEnd)
	if end < 0 {
		return 0, true
	}
	if !bytes.Equal(input[:end], requestLine) {
		return 0, false
	}
	taken := end + len(lineEnd)
	for {
		end := bytes.Index(input[taken:], lineEnd)
		if end < 0 {
			return 0, true
		}
		line := input[taken : taken+end]
		taken += end + len(lineEnd)
		if end == 0 {
			return taken, true
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isName(line[:colon]) || !isValue(line[colon+1:]) {
			return 0, false
		}
	}
}

// The bytes of a header's name (RFC 9110, token).
var nameBytes = func() (allowed [256]bool) {
	for _, b := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		allowed[b] = true
	}
	return allowed
}()

func isName(name []byte) bool {
	for _, b := range name {
		if !nameBytes[b] {
			return false
		}
	}
	return true
}

func isValue(value []byte) bool {
	for _, b := range value {
		if b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

func serveNetHTTP(listener net.Listener) {
	body := []byte("Hello, World!")
	handler := func(writer http.ResponseWriter, _ *http.Request) {
		header := writer.Header()
		header["Server"] = []string{"bench"}
		header["Content-Type"] = []string{"text/plain"}
		writer.Write(body)
	}
	fmt.Fprintln(os.Stderr, http.Serve(listener, http.HandlerFunc(handler)))
}
