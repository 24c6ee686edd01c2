"""Prompts and answers of keys whose owner has asked for it, redacted, one object in S3 for each request.

Its one rule: nothing is written without redaction, so without the salt nothing is written at all. A failure goes to the
log and harms nothing else. The content is written when the client has its last byte, within the rest of the
invocation's time.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from openai_proxy.credentials import sent_key

from proxy.aws.client import AwsError
from proxy.aws.s3 import S3
from proxy.call import Call
from proxy.json_shapes import loads_or_none
from proxy.log import log
from proxy.outcome import Outcome
from proxy.records.recorder import ResponseRecorder

_LONGEST_WAIT = 3.0
_RESERVE = 0.2
_VERSION = "1.0"
_FACTS = (
    *("id", "request_id", "client", "client_id", "key_id", "server", "model", "operation", "stream", "outcome"),
    *("status", "error", "usage", "duration", "cache", "trace_id", "w3c_trace_id"),
)
"""The fields of the request's log line that stand beside its content."""


class ContentLog:
    """Writes to `bucket`. `salt` reads the stack's salt; it is called once in each sandbox, when it is first needed."""

    def __init__(self, s3: S3, bucket: str, salt: Callable[[], str]) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._read_salt = salt
        self._salt = b""

    @staticmethod
    def recorder(content_type: str) -> ResponseRecorder:
        """A recorder that keeps an answer while it passes."""
        return ResponseRecorder(content_type)

    def write(self, call: Call, outcome: Outcome, line: Mapping[str, Any], timestamp: str, seconds: float) -> None:
        """Write what was asked and answered, within `seconds`. `line` is the request's log line."""
        seconds = min(_LONGEST_WAIT, seconds - _RESERVE)
        reason = "no time was left"
        if seconds > 0:
            try:
                self._salt = self._salt or self._read_salt().encode()
                if not self._salt:
                    raise AwsError("salt", "Empty")
                document = {"version": _VERSION, "timestamp": timestamp} | {name: line[name] for name in _FACTS}
                body = json.dumps(document | _content(call, outcome, self._salt), ensure_ascii=False)
                key = f"content/{timestamp[:10]}/{line['client_id']}/{line['id']}.json"
                self._s3.put(self._bucket, key, body.encode(errors="replace"), seconds, "application/json")
            except AwsError as error:
                reason = str(error)
            else:
                return
        log("WARN", "Content was not logged", id=line["id"], reason=reason)


def _content(call: Call, outcome: Outcome, salt: bytes) -> dict[str, Any]:
    """The document with `request`, `response`, and how many values of each kind were redacted."""
    from proxy.records.redaction import Redactor  # noqa: PLC0415  # few keys need it

    request, answer, delivery = call.request, outcome.content, outcome.delivery
    sent = delivery.sent.content if delivery.sent else b""
    key = sent_key(request.headers) if request else None
    known = [("provider_token", delivery.token), ("client_key", key or "")]
    of_request, of_answer = Redactor(salt, known), Redactor(salt, known)
    asked = of_request.value(loads_or_none(sent))
    said = of_answer.value(answer.content() if answer else None)
    return {
        "request": {"size": len(sent), "content": asked, "is_cut": of_request.is_cut},
        "response": {
            "size": answer.size if answer else 0,
            "content_type": of_answer.text(answer.content_type) if answer else None,
            "content": said,
            "is_cut": of_answer.is_cut or (answer is not None and answer.is_cut),
        },
        "redacted": dict(sorted((of_request.counts + of_answer.counts).items())),
    }
