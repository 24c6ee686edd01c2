"""The body of a request: which model it asks for, and the body that a server gets instead. Pure.

Its one rule: nothing changes that need not change. Additions to JSON are spliced in behind the opening brace, and a
model in an upload is replaced where it stands. Every other byte of the client's body stays as it was, numbers and key
order included.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from proxy.errors import ClientError
from proxy.json_shapes import array_of, object_of
from proxy.metering.estimate import input_tokens
from proxy.request.asked_counts import AskedCounts, asked_counts
from proxy.request.parse import InferenceRequest, Target

_STREAMS_WITH_USAGE_OPTION = ("/chat/completions", "/completions")
_CHAT, _MESSAGES = "/chat/completions", "/messages"
_GENERATES = ("chat", "text_completion", "responses")
_TAKES_MODEL = ("chat", "text_completion", "embeddings", "images", "audio", "moderations")
_ASKED_IN_JSON = ("chat", "text_completion", "responses", "embeddings", "moderations")
"""Operations that take no other body than JSON; images and audio also take uploads."""
_OPENS_OBJECT = rb"[ \t\r\n\xef\xbb\xbf]*\{"
_TAKE_MODEL_TOO = ("/responses", "/responses/compact", "/responses/input_tokens", "/messages/count_tokens")
_LONGEST_MODEL = 256
_encode = json.JSONEncoder(separators=(",", ":")).encode
_ASKS_FOR_USAGE = {"stream_options": {"include_usage": True}}
_ASKING_FOR_USAGE = _encode(_ASKS_FOR_USAGE).encode()[1:-1]
"""Made once: `json.dumps` makes an encoder for every call that does not want its blanks."""
_MOST_DECODINGS = 3
_QUERY_SEPARATOR = re.compile(r"[&;?]")
_CONTENT_FIELDS = frozenset(
    {
        *("messages", "system", "input", "prompt", "tools", "functions", "response_format", "text", "metadata"),
        "prediction",
    }
)
"""What a model reads or writes, or the client keeps: a name in it is no order to the server."""
_READ_HERE = _CONTENT_FIELDS | {
    *("model", "stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens"),
    "instructions",
}
"""What limits and metering read of a body. Servers that ignore the case of names read it under another name, too."""
_MAY_NAME_A_MODEL = re.compile(r"model|fallback|deployment|^(?:engine|preset)$", re.IGNORECASE)
_MOST_NAMES = 10_000


class OutgoingBody(NamedTuple):
    """The body as the server gets it, and what the proxy needs to know of it."""

    content: bytes
    model: str | None
    stream: bool
    asks_usage_unasked: bool
    """The proxy, not the client, asked for usage in the stream: the extra chunk has to be hidden again."""
    one_choice: bool = False
    """A chat with one answer, which ends once."""


class _Repeating(dict[str, Any]):
    """An object that has a key twice. If that is `model`, one server may take the first, another the last."""


class RequestBody:
    """A client's body, read once.

    Raises ClientError for broken JSON, an ambiguous model, and a count that no model accepts.
    """

    def __init__(self, request: InferenceRequest, target: Target) -> None:
        self._content = request.body
        self.is_posted = request.method == "POST"
        self._operation, self._path = target.operation, target.path
        self._fields: dict[str, Any] | None = None
        self._place: slice | None = None
        self._asked: dict[str, Any] = {}
        self.model: str | None = None
        """The one that the client names."""
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        is_called_json = media_type == "application/json" or media_type.endswith("+json")
        if request.body and (is_called_json or _may_be_read_as_json(request.body, target)):
            self._fields = self._asked = _json_object(request.body)
            self.model = _text_or_none(self._fields.get("model"))
        elif request.body and (media_type == "multipart/form-data" or self._operation in _TAKES_MODEL):
            from proxy.request.form import form_of  # noqa: PLC0415  # few requests are uploads

            form = form_of(request.body, request.headers.get("content-type", ""))
            self._place = _only(form.models)
            self._asked = form.asked if self._operation in _TAKES_MODEL else {}
            if self._place:
                self.model = request.body[self._place][:_LONGEST_MODEL].decode(errors="replace") or None
        self.takes_default = self._fields is not None and (
            self._operation in _TAKES_MODEL or target.path in _TAKE_MODEL_TOO
        )
        """Whether a server's default model is filled in when the client names none."""
        if self.takes_default:
            _check_spelling(self.fields)
        self.asks_a_model = self.takes_default or (bool(request.body) and self._operation in _TAKES_MODEL)
        """Whether the request is to a model."""
        self.asked = asked_counts(self._asked, target.path) if self.asks_a_model else AskedCounts()
        is_clear = is_called_json or self._place is not None
        self.is_for_a_model = self.asks_a_model and is_clear and not _names_a_model(request.query)
        """Whether the request is to one certain model, whoever reads it."""
        self.looks_up = _looked_up(request, target)
        """The model that the request only wants to know of, "" for all of them; None for other requests."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of a JSON body as the client sent it; none for another body."""
        return self._fields or {}

    @property
    def names_another_model(self) -> bool:
        """Whether a field beside `model` may make a server ask another model: OpenRouter's `models`, `fallbacks`, …

        A body with more fields than anybody needs counts as one that does.
        """
        waiting: list[Any] = [{name: each for name, each in self.fields.items() if name not in _CONTENT_FIELDS}]
        waiting[0].pop("model", None)
        # a tool that the server runs may name a model of its own
        waiting += map(_plain, array_of(self.fields.get("tools")))
        for number, value in enumerate(waiting):
            inner = object_of(value)
            if number > _MOST_NAMES or any(each and _MAY_NAME_A_MODEL.search(name) for name, each in inner.items()):
                return True
            waiting += [each for each in (*inner.values(), *array_of(value)) if isinstance(each, dict | list)]
        return False

    @property
    def end_user(self) -> str | None:
        """The user for whom the client asks: OpenAI's `safety_identifier` or older `user`, Anthropic's
        `metadata.user_id`.
        """
        fields = self._fields or {}
        if self._path == _MESSAGES:
            fields = {"user": object_of(fields.get("metadata")).get("user_id")}
        return next((name for key in ("safety_identifier", "user") if isinstance(name := fields.get(key), str)), None)

    @property
    def generates(self) -> bool:
        """Whether the answers are texts that a model generates."""
        return self._fields is not None and self._operation in _GENERATES

    @property
    def input_tokens(self) -> int:
        """About how many tokens the prompt has."""
        return 0 if self._fields is None and not self._asked else input_tokens(self._asked)

    def outgoing(self, default_model: str, replacement: str = "", *, asks_usage: bool = True) -> OutgoingBody:
        """The body for a server: with the default model if it names none, and with a request for usage if it is a
        streamed chat and the server does not refuse that.

        A `replacement` replaces the model that the client named. Bodies of unknown form pass unchanged.
        """
        if self._fields is None:
            return self._outgoing_upload(replacement)
        fields, added = self._fields, dict[str, Any]()
        if replacement or (self.takes_default and not self.model and default_model):
            added["model"] = replacement or default_model
        stream = fields.get("stream") is True
        options = fields.get("stream_options")
        asks = asks_usage and stream and self._path in _STREAMS_WITH_USAGE_OPTION and _lacks_usage(options)
        if asks:
            added["stream_options"] = {**(options or {}), "include_usage": True}
        model = added.get("model") or self.model
        one_choice = self._path == _CHAT and fields.get("n") in (None, 1)
        return OutgoingBody(_with(self._content, fields, added), model, stream, asks, one_choice)

    def _outgoing_upload(self, replacement: str) -> OutgoingBody:
        content, model = self._content, self.model
        if self._place and replacement:
            content = content[: self._place.start] + replacement.encode() + content[self._place.stop :]
            model = replacement
        return OutgoingBody(content, model, stream=False, asks_usage_unasked=False)


def _may_be_read_as_json(body: bytes, target: Target) -> bool:
    """Whether a server may read a body as JSON that is called something else.

    Many servers read JSON whatever the content type says. A body that is not read here would be bound by no limit.
    """
    if target.operation in _ASKED_IN_JSON or target.path in _TAKE_MODEL_TOO:
        return True
    return target.operation in _TAKES_MODEL and re.match(_OPENS_OBJECT, body) is not None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise ClientError(400, "invalid_json", "The body is not valid JSON.") from error
    if not isinstance(fields, dict):
        raise ClientError(400, "invalid_json", "The body is not a JSON object.")
    # Some servers ignore the case of names.
    found = object_of(fields)
    if isinstance(fields, _Repeating) or len({name.lower() for name in found}) != len(found):
        raise ClientError(400, "invalid_json", "The body names a field twice, perhaps in capital letters too.")
    if "model" not in found and any(name.lower() == "model" for name in found):
        raise ClientError(400, "invalid_model", "The field 'model' must be written in small letters.")
    return found


def _check_spelling(fields: Mapping[str, Any]) -> None:
    """Raise ClientError for a field that is read under another name only by servers that ignore the case of names."""
    for name in fields:
        if name not in _READ_HERE and name.lower() in _READ_HERE:
            raise ClientError(400, "invalid_json", f"The field '{name}' must be written '{name.lower()}'.", param=name)


def _no_json(constant: str) -> Any:
    raise ValueError(constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else _Repeating(fields)


def _plain(tool: Any) -> dict[str, Any]:
    """A tool without its schema."""
    return {name: value for name, value in object_of(tool).items() if not isinstance(value, dict | list)}


def _text_or_none(model: object) -> str | None:
    if model is not None and not isinstance(model, str):
        raise ClientError(400, "invalid_model", "The field 'model' must be a string.")
    return model or None


def _looked_up(request: InferenceRequest, target: Target) -> str | None:
    if request.method != "GET" or target.operation != "models" or request.body or _names_a_model(request.query):
        return None
    return unquote(target.path.removeprefix("/models").removeprefix("/"))


def _names_a_model(query: str) -> bool:
    """Whether a server might find a model in `query`, however it reads a query: `model[]=x`, `models`, `Model.id`.

    Something in between may decode it once or twice more.
    """
    for _ in range(_MOST_DECODINGS if query else 0):
        query = unquote(query)
    return any("model" in part.partition("=")[0].lower() for part in _QUERY_SEPARATOR.split(query))


def _only(places: list[slice]) -> slice | None:
    if len(places) > 1:
        raise ClientError(400, "invalid_model", "The upload names a model twice.")
    return places[0] if places else None


def _lacks_usage(stream_options: object) -> bool:
    """Whether usage can and must be asked for. A malformed `stream_options` is left to the server to refuse."""
    if stream_options is not None and not isinstance(stream_options, dict):
        return False
    return object_of(stream_options).get("include_usage") is not True


def _with(body: bytes, fields: Mapping[str, Any], added: Mapping[str, Any]) -> bytes:
    if not added:
        return body
    if not fields or any(name in fields for name in added):
        try:
            return json.dumps({**fields, **added}, allow_nan=False).encode()
        except ValueError as error:
            raise ClientError(400, "invalid_json", "The body holds a number that is too large.") from error
        except RecursionError as error:
            # JSON that is nested so deeply that it can just be read cannot always be written
            raise ClientError(400, "invalid_json", "The body is nested too deeply.") from error
    before, brace, after = body.partition(b"{")
    members = _ASKING_FOR_USAGE if added == _ASKS_FOR_USAGE else _encode(added).encode()[1:-1]
    return before + brace + members + b"," + after
