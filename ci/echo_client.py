#!/usr/bin/env python3
"""Talks to an echo server as a program that knows nothing of bine would.

usage: echo_client.py HOST PORT

Sends a line, then messages of growing size, then closes its sending side, and checks that every
byte comes back, followed by the end of the stream. Prints the address that it spoke from.
"""

import random
import socket
import sys
import threading

GREETING = b"hello-from-python\n"
# Bounds a server that does not answer; no check depends on how long an answer takes.
PATIENCE_SECONDS = 60


def receive(connection: socket.socket, count: int) -> bytes:
    """Reads exactly `count` bytes, or fewer where the stream ends."""
    received = bytearray()
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            break
        received += part
    return bytes(received)


def exchange(connection: socket.socket, message: bytes) -> None:
    """Sends a message while it reads the echo: a large one fits into no buffer."""
    sender = threading.Thread(target=connection.sendall, args=(message,))
    sender.start()
    echo = receive(connection, len(message))
    sender.join()
    if echo != message:
        sys.exit(f"sent {len(message)} bytes, and {len(echo)} others came back")


def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    with socket.create_connection((host, port), timeout=PATIENCE_SECONDS) as connection:
        host, port = connection.getsockname()[:2]
        exchange(connection, GREETING)
        for size in (1, 100, 4096, 65_537, 1 << 20):
            exchange(connection, random.randbytes(size))
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1):
            sys.exit("bytes came back that were not sent")
    print(f"{host}:{port}")


main()
