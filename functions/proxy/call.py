"""`Call`: one request of one client, as far as it has been admitted. Pure."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from openai_proxy.key_context import ClientKey

from proxy.errors import ProxyError
from proxy.limits.reservation import Reservation
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Candidate

STREAMS = "/streams/"
"""What paths begin with that name a stream which may be read again; below the name of any server too."""
_STREAMS_WITH_AN_END = ("/chat/completions", "/completions", "/responses", "/messages")
_QUESTIONS = (*_STREAMS_WITH_AN_END, "/embeddings")
_FREE = (
    "/(?:batch(?:es|/jobs)|files|models|uploads|vector_stores(?!/[^/]+/search))(?:/.*)?"
    "|/chat/completions/[^/]+|/messages/batches(?:/.*)?|/responses/(?:input_tokens|[^/]+/cancel)|/messages/count_tokens|/(?:de)?tokenize"
)
"""Paths whose POST costs nothing, whatever its answer says: what they hold or count is charged for elsewhere. Compiled
when the first path comes that is none of `_QUESTIONS`, not in every cold start."""
_FREE_UNLESS_REPORTED = ("/moderations/", "/conversations/")
"""What begins so is free at OpenAI and has usage at Mistral."""
_FETCHED = r"/(?:responses|batches|batch/jobs|messages/batches)/[^/]+"
_LINES = r"/(?:messages/batches/([^/]+)/results|files/([^/]+)/content)"


class Call(NamedTuple):
    """What is asked (`request`, `target`, `body`), by whom (`key`), of which servers, and until when.

    If it was `refused` on the way, the later fields are not set: without `key`, nobody knows whose request it is.
    `deadline` (Unix seconds) is when servers have to be done.
    """

    id: str
    deadline: float
    request: InferenceRequest | None = None
    key: ClientKey | None = None
    target: Target | None = None
    body: RequestBody | None = None
    candidates: Sequence[Candidate] = ()
    reservation: Reservation | None = None
    refused: ProxyError | None = None
    tags: Mapping[str, str] = MappingProxyType({})
    """What the request itself is to be charged to; what its key says comes first."""

    @property
    def request_id(self) -> str:
        """The client's own id for the request, or ours."""
        return (self.request.own_id if self.request else None) or self.id

    @property
    def path(self) -> str:
        """The path below `/v1`."""
        return self.target.path if self.target else ""

    @property
    def operation(self) -> str:
        """What kind of request it is, as events call it."""
        return self.target.operation if self.target else "other"

    @property
    def end_user(self) -> str | None:
        """The user for whom the client says that it asks, by the client's own name."""
        return self.body.end_user if self.body else None

    @property
    def wants_receipt(self) -> bool:
        """Whether the client asked for a receipt at the end of its stream."""
        return self._has_asked_for("comment")

    @property
    def wants_cost(self) -> bool:
        """Whether the client asked for the cost in the usage of its answer."""
        return self._has_asked_for("usage")

    def _has_asked_for(self, form: str) -> bool:
        asked = self.request.headers.get("x-receipt", "") if self.request else ""
        return form in asked and form in map(str.strip, asked.split(","))

    @property
    def asks_for_stream(self) -> bool:
        """Whether the request is for a stream that exists already, and has a key."""
        return self.key is not None and self.refused is None and self.path.startswith(STREAMS)

    @property
    def wants_to_resume(self) -> bool:
        """Whether the answer, if it is a stream, should outlive its connection: the client asks for that, or the owner
        has set it.
        """
        if self.request is None or self.refused is not None or not self.is_question:
            return False
        asked = self.request.headers.get("x-resumable")
        if asked is not None:
            return asked.strip().lower() == "true"
        return bool(self.key and self.key.resumable) or bool(self.candidates and self.candidates[0].server.resumable)

    @property
    def wants_no_wait(self) -> bool:
        """Whether the client does not wait for its answer, and only wants to be told where it will be."""
        if self.request is None or self.refused is not None or self.body is None:
            return False
        return self.request.headers.get("x-respond-async", "").strip().lower() == "true"

    @property
    def stops_without_client(self) -> bool:
        """Whether a resumable stream ends when nobody reads it: its key says so, or its server."""
        policy = (self.key.on_disconnect if self.key else "") or (
            self.candidates[0].server.on_disconnect if self.candidates else ""
        )
        return policy == "stop"

    @property
    def is_post(self) -> bool:
        """Whether the request asks for something to be done, not just fetched."""
        return self.request is not None and self.request.method == "POST"

    @property
    def is_question(self) -> bool:
        """Whether the request asks a model, which answers with JSON or a stream and nothing else.

        Some servers look at the path alone, and answer whatever the method is.
        """
        if self.request is None or self.path not in _QUESTIONS:
            return False
        return self.request.method in ("POST", "PUT", "PATCH") or self.request.body != b""

    @property
    def has_terminator(self) -> bool:
        """Whether a stream of this operation always ends in a finish reason, an end mark or a final event."""
        return self.path in _STREAMS_WITH_AN_END

    @property
    def fetches_answer(self) -> bool:
        """Whether it fetches something made earlier: then the usage of a background answer, or of a batch, is reported
        now.
        """
        is_get = self.request is not None and self.request.method == "GET"
        return is_get and bool(re.fullmatch(_FETCHED, self.path) or self.lines_of)

    @property
    def lines_of(self) -> str | None:
        """The batch whose answers are fetched line by line, or the file that may hold such lines; else None."""
        if not self.path.endswith(("/results", "/content")) or self.request is None or self.request.method != "GET":
            return None
        match = re.fullmatch(_LINES, self.path)
        return (match[1] or match[2]) if match else None

    @property
    def uses_tokens(self) -> bool:
        """Whether the operation may cost something: an answer without usage is `missing` or `none` accordingly.

        An unknown path may.
        """
        return self.is_question or self.fetches_answer or (self.is_post and not re.fullmatch(_FREE, self.path))

    @property
    def is_free_unless_reported(self) -> bool:
        """Whether an answer has cost something only if it reports usage."""
        return f"{self.path}/".startswith(_FREE_UNLESS_REPORTED)

    @property
    def has_own_form(self) -> bool:
        """Whether the form of the answer is not known: then a piece that is not in OpenAI's form is no error."""
        return self.operation == "other"
