"""Hears when an answer is there that nobody waited for: `python receiver.py`, with STREAM_WEBHOOK_SECRET set.

It needs nothing but Python. What is not signed with that secret, or older than an hour, is refused; what comes twice is
taken once.
"""

import base64
import hmac
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["STREAM_WEBHOOK_SECRET"].encode()
OLDEST = timedelta(hours=1)
LONGEST = 10_000

taken: set[str] = set()


def genuine(body: bytes) -> dict[str, str] | None:
    """The message, if who knows the secret has signed it within the last hour."""
    try:
        message = json.loads(body)
        return message if is_genuine(message) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def is_genuine(message: dict[str, str]) -> bool:
    """Whether it is signed, and not too old."""
    signed = f"{message['id']}.{message['timestamp']}.{message['status']}"
    expected = "v1," + base64.b64encode(hmac.digest(SECRET, signed.encode(), "sha256")).decode()
    age = datetime.now(UTC) - datetime.fromisoformat(message["timestamp"])
    return hmac.compare_digest(expected.encode(), message["signature"].encode()) and age < OLDEST


class Receiver(BaseHTTPRequestHandler):
    """Takes what is genuine, and prints it once."""

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        message = genuine(self.rfile.read(min(int(length), LONGEST))) if length.isdecimal() else None
        self.send_response(204 if message else 403)  # below 300: taken, and not told again
        self.end_headers()
        if message and message["id"] not in taken:
            taken.add(message["id"])
            print(f"{message['status']}: {message['url']}", flush=True)

    def log_message(self, format: str, *args: object) -> None:
        """One line for each answer is enough."""


port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
    print(f"Listening on http://127.0.0.1:{port}/", flush=True)
    server.serve_forever()
