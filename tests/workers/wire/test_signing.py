"""What is taken as a key, and what the door key is derived by."""

import hashlib
import hmac
from typing import Any

import pytest

from workers.wire.signing import KeyRefused, checked_key, checked_keys, door_key, key_id, new_key


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("00" * 32, "bytes.fromhex"),
        (b"00" * 32, "bytes.fromhex"),
        (bytes(31), "32 bytes, not 31"),
        (b"", "32 bytes, not 0"),
        (5, "not a int"),
        ([], "not a list"),
    ],
)
def test_what_is_no_key_is_refused_and_never_shown(key: Any, message: str) -> None:
    with pytest.raises(KeyRefused, match=message) as refused:
        checked_key(key)
    assert "00" * 8 not in str(refused.value)


def test_one_key_or_several_or_none() -> None:
    one, other = new_key(), new_key()
    assert checked_keys(None) == ()
    assert checked_keys(bytearray(one)) == (one,)
    assert checked_keys([one, other]) == (one, other)
    for bad in ([], [one, "x"]):
        with pytest.raises(KeyRefused):
            checked_keys(bad)


def test_the_door_key_is_hkdf_of_the_camera_key() -> None:
    # RFC 5869 by hand: no salt, one block.
    prk = hmac.new(bytes(32), bytes(range(32)), hashlib.sha256).digest()
    okm = hmac.new(prk, b"livegate decision v1" + b"\x01", hashlib.sha256).digest()
    assert door_key(bytes(range(32))) == okm
    assert key_id(okm) != key_id(bytes(range(32)))
