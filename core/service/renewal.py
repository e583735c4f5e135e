"""How a page that was opened by an earlier service gets the token of the one that runs now.

Another program may listen at the port of a service that has ended. So the service proves itself first, and tells the
token only to a page that proves itself too; neither says the key that both know. Each proof holds the port, so that
nobody can pass on the proofs of a service at another port.

    page:    {"nonce": n}            -> service: {"nonce": m, "proof": HMAC(key, "service|PORT|n|m")}
    page:    {"nonce": m, "proof": HMAC(key, "page|PORT|n|m")}  -> service: {"token": token}

The key is in a file of the service's folder, stays from one service to the next, and is given to a page that has the
token (`GET /v1/key`). The page keeps it in its memory only: no later page of that address can read it.
"""

import hmac
import json
import re
import secrets
from collections import OrderedDict
from pathlib import Path
from typing import Any

from vera.core import files
from vera.core.service.security import write_private

KEY_BYTES = 32
MAX_OPEN = 64  # exchanges that have begun; the oldest gives way
_NONCE = re.compile("[0-9a-f]{32}")


class RenewalError(Exception):
    """The other side has not proved itself: one line."""


class Renewal:
    """Of the service at `port`, whose token is given to pages that know the key."""

    def __init__(self, key: bytes, token: str, port: int) -> None:
        self.key, self.token, self.port = key, token, port
        self._open: OrderedDict[str, str] = OrderedDict()  # the service's nonce -> the page's

    def answer(self, said: dict[str, Any]) -> dict[str, str]:
        """The answer to either message. Raises RenewalError."""
        nonce, proof = said.get("nonce"), said.get("proof")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce) or set(said) - {"nonce", "proof"}:
            raise RenewalError("nonce is not 32 hex digits")
        if proof is None:
            own = secrets.token_hex(16)
            self._open[own] = nonce
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
            return {"nonce": own, "proof": self.proof("service", nonce, own)}
        theirs = self._open.pop(nonce, None)
        right = theirs is not None and self.proof("page", theirs, nonce)
        if not right or not isinstance(proof, str) or not hmac.compare_digest(proof.encode(), right.encode()):
            raise RenewalError("the proof is wrong; open the page with vera serve --open")
        return {"token": self.token}

    def proof(self, side: str, page: str, service: str) -> str:
        """64 hex digits that only a holder of the key can make."""
        words = f"{side}|{self.port}|{page}|{service}"
        return hmac.digest(self.key, words.encode(), "sha256").hex()


def key_in(folder: Path) -> bytes:
    """The key of the service's folder; a new one where there is none, or a damaged one. Raises OSError."""
    path = folder / "page.json"
    try:
        key = bytes.fromhex(files.read_json(path, {"key": str})["key"])
        if len(key) == KEY_BYTES:
            return key
    except (OSError, ValueError):
        pass
    key = secrets.token_bytes(KEY_BYTES)
    write_private(path, json.dumps({"key": key.hex()}) + "\n")
    return key
