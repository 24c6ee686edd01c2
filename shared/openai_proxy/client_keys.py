"""Client keys: `opx-`, 43 base62 characters (256 random bits), 6 base62 characters of CRC-32 over all before. Pure.

One rule: a key is shown once, where it is made; only its hash is stored. The checksum lets garbage be refused without
a look-up, and lets secret scanners tell a key from an accident.
"""

import hashlib
import re
import secrets
import zlib

PREFIX = "opx-"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 43
_CHECKSUM_LENGTH = 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}")


def new_client_key() -> str:
    """A fresh key of 53 characters."""
    body = PREFIX + _base62(secrets.randbits(256), _SECRET_LENGTH)
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether `key` has the form and the checksum of a client key. Says nothing about whether it exists."""
    return _FORM.fullmatch(key) is not None and _checksum(key[:-_CHECKSUM_LENGTH]) == key[-_CHECKSUM_LENGTH:]


def hash_client_key(key: str) -> str:
    """The hex SHA-256 under which `key` is stored. A key has 256 random bits: it needs neither salt nor stretching."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
