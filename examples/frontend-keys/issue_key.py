"""Makes a client key for one user of a public frontend, good for minutes: what your own backend answers after login.

Needs KEYS_TABLE, the stack's output `KeysTable`, and leave to `dynamodb:PutItem` on it, nothing more.
"""

import hashlib
import json
import os
import secrets
import sys
import time
import zlib
from datetime import UTC, datetime
from decimal import Decimal

import boto3

CLIENT_ID = "web-chat"
SECONDS = 15 * 60
LIMITS = {
    "servers": ["openai", "demo"],
    "models": ["gpt-5.4-mini", "demo*"],
    "rpm": 20,
    "tpm": 50_000,
    "parallel": 2,
    "budget_day": Decimal("0.50"),
    "currency": "USD",
}


def issue_key(user: str) -> tuple[str, int]:
    """A new key for a user who is logged in, and when it ends, in Unix seconds. The key is stored nowhere."""
    key, now = new_key(), int(time.time())
    item = {
        "key_hash": hashlib.sha256(key.encode()).hexdigest(),
        "client_id": CLIENT_ID,
        "name": "Web chat, one user for 15 minutes",
        "enabled": True,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "expires_at": now + SECONDS,
        # All keys of a user count against the same limits and budget: whoever asks for ten keys gets no more with them.
        "limits_id": hashlib.sha256(f"{CLIENT_ID}:{user}".encode()).hexdigest()[:12],
        **LIMITS,
    }
    table = boto3.resource("dynamodb").Table(os.environ["KEYS_TABLE"])
    table.put_item(Item=item, ConditionExpression="attribute_not_exists(key_hash)")
    return key, now + SECONDS


def new_key() -> str:
    """`opx-`, 43 base62 characters of 256 random bits, 6 of a CRC-32: the form that the proxy lets in."""
    body = "opx-" + base62(secrets.randbits(256), 43)
    return body + base62(zlib.crc32(body.encode()), 6)


def base62(number: int, length: int) -> str:
    """`number` in `length` digits."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(digits[number // 62**place % 62] for place in reversed(range(length)))


if __name__ == "__main__":
    new, end = issue_key(sys.argv[1] if len(sys.argv) > 1 else "somebody")
    print(json.dumps({"key": new, "expires_at": end}))
