"""Connections of the server: those that have shown no token are few, and not for long.

A connection is a stranger's until a request on it has carried the token. Of strangers the oldest gives way to the
newest, so that thousands of them, or requests that are sent by halves, keep nobody else out.
"""

from __future__ import annotations

import hmac
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_STRANGERS = 128  # more let a burst of strangers take more memory, fewer may cut off a page that is opened just then
STRANGER_SECONDS = 10.0  # that a stranger's connection is kept
BACKLOG = 64  # that the system accepts at once: below MAX_STRANGERS, so that what came with a request is read first


def protocol_of(token: str) -> type[H11Protocol]:
    """uvicorn's protocol, which bounds the strangers of one server."""
    expected = f"bearer {token}".encode()
    strangers: dict[Bounded, None] = {}  # the oldest first

    class Bounded(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            strangers[self] = None
            self.deadline = self.loop.call_later(STRANGER_SECONDS, self._end_stranger)
            while len(strangers) > MAX_STRANGERS:
                next(iter(strangers))._end_stranger()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self in strangers and any(name == b"authorization" and _is(value) for name, value in self.headers or ()):
                self._forget()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _end_stranger(self) -> None:
            self._forget()
            self.transport.abort()

        def _forget(self) -> None:
            strangers.pop(self, None)
            self.deadline.cancel()

    def _is(value: bytes) -> bool:
        scheme, _, given = value.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + given, expected)

    return Bounded
