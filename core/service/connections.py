"""Limit the number and duration of connections that have not shown the token.

Until a request with the token arrives, a connection counts as a stranger's. Beyond MAX_STRANGERS, the oldest is closed
for the newest. So thousands of connections, or half-sent requests, cannot lock out the owner.
"""

from __future__ import annotations

import hmac
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_STRANGERS = 128  # raising it lets a burst take more memory; lowering it may cut off a page that is just opened
STRANGER_SECONDS = 10.0  # time after which a stranger's connection is closed
BACKLOG = 64  # connections accepted at once; below MAX_STRANGERS, so that a connection's request is read before others


def protocol_of(token: str) -> type[H11Protocol]:
    """A subclass of uvicorn's protocol that limits the strangers of one server."""
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
