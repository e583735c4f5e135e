"""Token renewal: give the token of a restarted service to a page that was opened before the restart.

The service has a new token after each start. The page and the service share a secret key, and each proves to the other
that it knows the key, without sending it (challenge and response with HMAC-SHA256):

    page:    {"nonce": n}            -> service: {"nonce": m, "proof": HMAC(key, "service|PORT|n|m")}
    page:    {"nonce": m, "proof": HMAC(key, "page|PORT|n|m")}  -> service: {"token": token}

The service proves itself first, because another program may now listen at its port. The proofs contain the port, so
that a program at one port cannot forward the proofs of a service at another.

The key is stored in the service's folder and survives restarts. A page that has the token gets it by `GET /v1/key` and
keeps it in memory only, so that a page loaded later from the same address cannot read it.
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

KEY_BYTES = 32  # length of the key in bytes; another length discards stored keys
MAX_OPEN = 64  # unfinished exchanges that are remembered; beyond it the oldest is dropped. Raising it takes memory
_NONCE = re.compile("[0-9a-f]{32}")


class RenewalError(Exception):
    """The page has not proved that it knows the key. The message is one line."""


class Renewal:
    """The service's side of the exchange. token: given to pages that prove that they know the key."""

    def __init__(self, key: bytes, token: str, port: int) -> None:
        self.key, self.token, self.port = key, token, port
        self._open: OrderedDict[str, str] = OrderedDict()  # the service's nonce -> the page's

    def answer(self, said: dict[str, Any]) -> dict[str, str]:
        """The answer to the page's first message, or to its second, which has a proof. Raises RenewalError."""
        nonce, proof = said.get("nonce"), said.get("proof")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce) or set(said) - {"nonce", "proof"}:
            raise RenewalError("nonce is not 32 hex digits")
        return self._begin(nonce) if proof is None else self._finish(nonce, proof)

    def _begin(self, page_nonce: str) -> dict[str, str]:
        """Remember the exchange, and prove this side."""
        own_nonce = secrets.token_hex(16)
        self._open[own_nonce] = page_nonce
        while len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return {"nonce": own_nonce, "proof": self.proof("service", page_nonce, own_nonce)}

    def _finish(self, own_nonce: str, proof: Any) -> dict[str, str]:
        """Check the page's proof, once for each exchange, and give the token."""
        page_nonce = self._open.pop(own_nonce, None)
        expected = page_nonce is not None and self.proof("page", page_nonce, own_nonce)
        if not expected or not isinstance(proof, str) or not hmac.compare_digest(proof.encode(), expected.encode()):
            raise RenewalError("the proof is wrong; open the page with vera serve --open")
        return {"token": self.token}

    def proof(self, side: str, page: str, service: str) -> str:
        """The proof of one side ("service" or "page") for the nonces of page and service: 64 hex digits."""
        words = f"{side}|{self.port}|{page}|{service}"
        return hmac.digest(self.key, words.encode(), "sha256").hex()


def key_in(folder: Path) -> bytes:
    """The key stored in the service's folder. A missing or damaged key is replaced by a new one. Raises OSError."""
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
