"""A server that answers as it is told: for what a real one does only in need."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

HANG = b""
"""Instead of an answer: none, with the connection left open."""

Answer = Callable[[list[bytes]], bytes | None]
"""Gives the reply to a command, None to close the connection, or `HANG`."""

OK = b"+OK\r\n"


def error(text: str) -> bytes:
    """Give an error reply."""
    return b"-%b\r\n" % text.encode()


class StubServer:
    """Listens on a port of this host, and answers every command by a function.

    What a client says of itself is answered by it; the function sees the rest.

    Attributes:
        url: Its address.
        commands: What it was asked, the names of the commands.
        connections: How many were opened.
        told: What its clients said of themselves.
    """

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.commands: list[str] = []
        self.connections = 0
        self.told: list[list[bytes]] = []
        self._answer = answer
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        port = self._listener.getsockname()[1]
        scheme, host = ("rediss", "localhost") if context else ("redis", "127.0.0.1")
        self.url = f"{scheme}://{host}:{port}"
        self._begin(self._accept)

    def _begin(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                self._open.append(client)
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if self._context:
                client = self._context.wrap_socket(client, server_side=True)
                self._open.append(client)
            with client, client.makefile("rb") as stream:
                while command := _command(stream):
                    reply = self._reply(command)
                    if reply is None:
                        return
                    client.sendall(reply)

    def _reply(self, command: list[bytes]) -> bytes | None:
        if command[0] == b"CLIENT":
            self.told.append(command[1:])
            return OK
        self.commands.append(command[0].decode())
        return self._answer(command)

    def close(self) -> None:
        """End every connection and thread."""
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()


def _command(stream: BinaryIO) -> list[bytes]:
    """Read one command: an array of strings with their lengths."""
    head = stream.readline()
    if not head.startswith(b"*"):
        return []
    parts: list[bytes] = []
    for _ in range(int(head[1:])):
        size = int(stream.readline()[1:])
        parts.append(stream.read(size + 2)[:-2])
    return parts


@contextmanager
def stub_server(
    answer: Answer, context: ssl.SSLContext | None = None
) -> Iterator[StubServer]:
    """Run a stub while the context lasts."""
    stub = StubServer(answer, context)
    try:
        yield stub
    finally:
        stub.close()
