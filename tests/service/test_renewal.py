"""A page reconnects to a restarted service, and sends nothing to another program on the same port."""

import hmac
import secrets
import stat

import pytest

from vera.core.service.renewal import MAX_OPEN, Renewal, RenewalError, key_in

KEY, NONCE = bytes(range(32)), "ab" * 16


def page_proof(renewal, theirs, key=KEY, port=None, side="page", own=NONCE):
    return hmac.digest(key, f"{side}|{port or renewal.port}|{own}|{theirs}".encode(), "sha256").hex()


def test_who_knows_the_key_gets_the_token():
    renewal = Renewal(KEY, "token", 4711)
    first = renewal.answer({"nonce": NONCE})
    assert first["proof"] == page_proof(renewal, first["nonce"], side="service")
    assert renewal.answer({"nonce": first["nonce"], "proof": page_proof(renewal, first["nonce"])}) == {"token": "token"}


@pytest.mark.parametrize(
    "wrong",
    [{"key": bytes(32)}, {"port": 4712}, {"side": "service"}, {"own": "cd" * 16}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_proof_of_anything_else_is_refused(wrong):
    renewal = Renewal(KEY, "token", 4711)
    first = renewal.answer({"nonce": NONCE})
    with pytest.raises(RenewalError):
        renewal.answer({"nonce": first["nonce"], "proof": page_proof(renewal, first["nonce"], **wrong)})


def test_a_proof_serves_once():
    renewal = Renewal(KEY, "token", 4711)
    first = renewal.answer({"nonce": NONCE})
    said = {"nonce": first["nonce"], "proof": page_proof(renewal, first["nonce"])}
    renewal.answer(said)
    with pytest.raises(RenewalError):
        renewal.answer(said)


def test_the_services_own_proof_serves_nobody():
    """Sent back to the service, or to one at another port."""
    renewal, other = Renewal(KEY, "token", 4711), Renewal(KEY, "token", 4712)
    first = renewal.answer({"nonce": NONCE})
    for each in (renewal, other):
        with pytest.raises(RenewalError):
            each.answer({"nonce": first["nonce"], "proof": first["proof"]})


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"nonce": 1},
        {"nonce": "ab"},
        {"nonce": NONCE, "more": 1},
        {"nonce": NONCE.upper()},
        {"nonce": NONCE, "proof": 1},
    ],
)
def test_odd_messages_are_refused(said):
    with pytest.raises(RenewalError):
        Renewal(KEY, "token", 4711).answer(said)


def test_strangers_fill_no_memory():
    renewal = Renewal(KEY, "token", 4711)
    for _ in range(3 * MAX_OPEN):
        renewal.answer({"nonce": secrets.token_hex(16)})
    assert len(renewal._open) == MAX_OPEN


def test_the_key_stays_and_is_private(tmp_path):
    key = key_in(tmp_path)
    assert key_in(tmp_path) == key and len(key) == 32
    assert stat.S_IMODE((tmp_path / "page.json").stat().st_mode) == 0o600
    (tmp_path / "page.json").write_text('{"key": "ab"}')
    assert key_in(tmp_path) != key and len(key_in(tmp_path)) == 32
