"""The vocabulary of the cases: what is asked, what a client must see, and what the proxy must tell its bus. Pure."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from conformance.wire import PLACE, Answer, Headers, fields_of

BOUNDARY = "conformance-7MA4YWxkTrZu0gW"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart form."""

    name: str
    data: bytes
    filename: str | None = None
    content_type: str | None = None

    @property
    def encoded(self) -> bytes:
        """The part with its head, without its boundary."""
        filename = f'; filename="{self.filename}"' if self.filename else ""
        content_type = f"\r\nContent-Type: {self.content_type}" if self.content_type else ""
        head = f'Content-Disposition: form-data; name="{self.name}"{filename}{content_type}'
        return head.encode() + b"\r\n\r\n" + self.data + b"\r\n"


def form_of(parts: Iterable[Part]) -> bytes:
    """A multipart body."""
    boundary = f"--{BOUNDARY}".encode()
    return b"".join(boundary + b"\r\n" + part.encoded for part in parts) + boundary + b"--\r\n"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. Its body is `fields` as JSON, or `form`, or `body`; `model` and `user` (the run's id) are put in."""

    method: str = "POST"
    path: str = "/chat/completions"
    """Below `/{server}/v1`; with `from_root` below the public URL. `{case}` is the case, `{server}` the server."""
    fields: Mapping[str, Any] | None = None
    form: Sequence[Part] | None = None
    body: bytes | None = None
    content_type: str = "application/json"
    headers: Headers = ()
    model: str | None = "{case}"
    server: str = ""
    """Which entry of openai_servers.yaml: the one under test, or the one whose name has this behind it."""
    from_root: bool = False
    key: Literal["client", "none", "wrong"] = "client"
    chunked: bool = False
    """Send the body in HTTP chunks."""
    reports: bool = False
    """The client tells the server, in requests of their own, how many events it has got."""
    leaves: bool = False
    """The client goes away after the first event."""

    def content(self, names: Mapping[str, str]) -> tuple[bytes, str | None]:
        """Body and content type for one run. `names` fills in the braces; the run's id still has to be put in."""
        if self.body is not None:
            return self.body, self.content_type
        model = self.model.format(**names) if self.model else None
        if self.form is not None:
            named = [Part("model", model.encode())] if model else []
            return form_of([*named, Part("user", PLACE), *self.form]), f"multipart/form-data; boundary={BOUNDARY}"
        if self.fields is None:
            return b"", None
        first = {"model": model} if model else {}
        return json.dumps({**first, "user": PLACE.decode(), **self.fields}).encode(), self.content_type


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it was sent."""

    run: str
    body: bytes
    headers: Headers
    server: str

    @property
    def sha256(self) -> str:
        """The SHA-256 of the body."""
        return hashlib.sha256(self.body).hexdigest()

    def header(self, name: str) -> str:
        """The value of the header `name` (lower case); empty when there is none."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer as it came. Header names are lower case; `whole` is false when its transfer broke off."""

    status: int
    headers: Headers
    body: bytes
    whole: bool = True

    def values(self, name: str) -> list[str]:
        """The values of the header `name`, in their order."""
        return [value for key, value in self.headers if key == name]

    @property
    def fields(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        return fields_of(self.body)


Check = Callable[[Sent, Seen], str | None]
"""What is wrong, in words, or None."""

OwnWords = Literal["proxy", "gateway", "preflight"]
"""Who speaks: the proxy, whose answers all carry certain headers; or what stands before it, which has its own form."""


@dataclass(frozen=True, slots=True)
class Sees:
    """What a client must see. What is left out may be anything."""

    status: int | tuple[int, ...] = 200
    body: bytes | None = None
    """The body, byte for byte."""
    begins: bytes | None = None
    """How the body begins."""
    broken_off: str | tuple[str, ...] = ()
    """After `body` (or anything) come an error frame with this `code` (or one of them) and `data: [DONE]`, no more."""
    error: str | tuple[str, ...] = ()
    """The body is an OpenAI error object with this `code` (or one of them)."""
    cut: bool = False
    """The transfer ends without its end, so that nobody takes the answer for whole."""
    keep_alive: bool = False
    """The proxy puts comments into the stream meanwhile."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Regular expressions of whole values, by header."""
    without: tuple[str, ...] = ()
    """Headers that must not be there."""
    also: tuple[Check, ...] = ()
    speaker: OwnWords = "proxy"


Usage = tuple[int, int] | Literal["unknown", "none"]
"""Input and output tokens as reported by the server; not reported though tokens were used; no tokens were used."""


@dataclass(frozen=True, slots=True)
class Told:
    """The terminal event. What is None may be anything."""

    type: Literal["InferenceCompleted", "InferenceFailed", "InferenceThrottled"] | None = None
    error: str | None = None
    usage: Usage | None = None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More of its data, by dotted path."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that must hold.

    `conformance-` and its `name` are the model that chooses it, or stand in the path where no model is named.
    """

    name: str
    about: str
    answer: Answer
    sees: Sees
    told: Told | None
    """None: no event at all, because nobody was authorised or nothing was asked for."""
    ask: Ask = field(default_factory=Ask)
    reads_body: bool = True
    """Whether the server takes the whole request before it answers."""
    url_only: bool = False
    """Whether only the function URL leaves it to the proxy: the REST API refuses keys itself, and decodes paths."""
    seconds: float = 0.0
    """How long it takes by its nature; long ones run only when asked for."""

    @property
    def model(self) -> str:
        """The model's name that chooses the case."""
        return f"conformance-{self.name}"
