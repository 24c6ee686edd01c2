"""Events, log lines, receipts and headers, compared whole with what was sent and answered, on a clock that is known."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_proxy.events.ulid import ulid_time

from tests.timed_relays import (
    Answer,
    TimedProxy,
    World,
    broken,
    document,
    nobody,
    rest_event,
    stream,
    timed_proxy,
    url_event,
)
from tests.unit.proxy.records.whole_records import (
    Asked,
    Said,
    Seen,
    event_of,
    headers_of,
    line_of,
    logged,
    receipt_of,
    usage,
)

CONTEXT = {
    "client_id": "team-a",
    "client_name": "Chat",
    "key_id": "3f2a91c07be4",
    "owner": "Ada",
    "tags": '{"env": "prod"}',
}
CLIENT = {"key_id": "3f2a91c07be4", "name": "Chat", "owner": "Ada", "tags": {"env": "prod"}}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REFUSAL = b'{"error": {"message": "no", "type": "t", "param": null, "code": null}}'
PATHS = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/responses": "responses",
    "/embeddings": "embeddings",
    "/moderations": "moderations",
}
STREAMED = ("/chat/completions", "/completions", "/responses")
FAILURES = {
    "nobody": "upstream_unreachable",
    "broken": "upstream_broken_off",
    "error in success": "upstream_error",
    "no answer": "upstream_no_answer",
}
RETRIED = (408, 429, 500, 502, 503, 504, 529)

seconds = st.integers(0, 3000).map(lambda milliseconds: milliseconds / 1000)
counts = st.integers(1, 5000)


class Counts(NamedTuple):
    """Tokens that a server reports."""

    went_in: int
    came_out: int
    cached: int
    reasoning: int

    def reported(self, path: str) -> dict[str, Any]:
        """As the servers of an operation say it."""
        words = ("input", "output") if path == "/responses" else ("prompt", "completion")
        return {
            f"{words[0]}_tokens": self.went_in,
            f"{words[1]}_tokens": self.came_out,
            "total_tokens": self.went_in + self.came_out,
            f"{words[0]}_tokens_details": {"cached_tokens": self.cached},
            f"{words[1]}_tokens_details": {"reasoning_tokens": self.reasoning},
        }


@st.composite
def some_counts(draw: st.DrawFn) -> Counts:
    went_in, came_out = draw(counts), draw(counts)
    return Counts(went_in, came_out, draw(st.integers(0, went_in)), draw(st.integers(0, came_out)))


def sse(data: Mapping[str, Any], name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


class Spoken(NamedTuple):
    """The body of an answer: its events, or one document; and what is in it."""

    pieces: Sequence[bytes]
    hidden: int = -1
    """Which piece the client does not get."""
    finish_reasons: Sequence[str] = ()
    id: str | None = None
    model: str | None = None


def spoken(path: str, texts: Sequence[str], found: Counts | None, *, is_stream: bool) -> Spoken:
    """A whole answer as servers give it, with usage or without."""
    if path == "/responses":
        return _response(texts, found, is_stream=is_stream)
    is_chat, facts = path == "/chat/completions", {"id": "a-1", "model": "real-model"}
    if path not in STREAMED:
        items = [{"index": 0, "embedding": [0.5]}] if path == "/embeddings" else []
        told = {"usage": found.reported(path)} if found else {}
        return Spoken(
            [json.dumps({**facts, "object": "list", "data": items, **told}).encode()], id="a-1", model="real-model"
        )
    kind = "chat.completion" if is_chat else "text_completion"
    if not is_stream:
        said = {"message": {"role": "assistant", "content": "".join(texts)}} if is_chat else {"text": "".join(texts)}
        choice = {"index": 0, **said, "finish_reason": "stop"}
        told = {"usage": found.reported(path)} if found else {}
        whole = {**facts, "object": kind, "choices": [choice], **told}
        return Spoken([json.dumps(whole).encode()], -1, ["stop"], "a-1", "real-model")
    facts |= {"object": "chat.completion.chunk" if is_chat else kind}
    pieces = [
        sse(
            {
                **facts,
                "choices": [
                    {"index": 0, **({"delta": {"content": text}} if is_chat else {"text": text}), "finish_reason": None}
                ],
            }
        )
        for text in texts
    ]
    pieces.append(
        sse(
            {
                **facts,
                "choices": [{"index": 0, **({"delta": {}} if is_chat else {"text": ""}), "finish_reason": "stop"}],
            }
        )
    )
    hidden = len(pieces) if found else -1
    pieces += [sse({**facts, "choices": [], "usage": found.reported(path)})] if found else []
    return Spoken([*pieces, b"data: [DONE]\n\n"], hidden, ["stop"], "a-1", "real-model")


def _response(texts: Sequence[str], found: Counts | None, *, is_stream: bool) -> Spoken:
    item = {"type": "message", "content": [{"type": "output_text", "text": "".join(texts)}]}
    facts = {"id": "resp_1", "object": "response", "model": "real-model"}
    whole = {**facts, "status": "completed", "output": [item], "usage": found.reported("/responses") if found else None}
    if not is_stream:
        return Spoken([json.dumps(whole).encode()], -1, ["completed"], "resp_1", "real-model")
    begun: dict[str, Any] = {**facts, "status": "in_progress", "output": [], "usage": None}
    events: list[tuple[str, dict[str, Any]]] = [("response.created", {"response": begun})]
    events += [("response.output_text.delta", {"delta": text}) for text in texts]
    events += [("response.completed", {"response": whole})]
    pieces = [
        sse({"type": name, "sequence_number": number, **data}, name) for number, (name, data) in enumerate(events)
    ]
    return Spoken(pieces, -1, ["completed"], "resp_1", "real-model")


def estimated(path: str, prompt: str, texts: Sequence[str], *, is_stream: bool) -> dict[str, Any]:
    """About four bytes a token, and four for a message; a stream has a token in each of its events, at least."""
    went_in = math.ceil(len(prompt.encode()) / 4) + 4
    if path == "/embeddings":
        return usage("estimated", went_in, 0)
    came_out = math.ceil(len("".join(texts).encode()) / 4)
    if is_stream:
        came_out = max(came_out, len([text for text in texts if text]))
    return usage("estimated", went_in, came_out)


@dataclass
class Case:
    """A request, what its servers do, and what is to be said of it."""

    asked: Asked
    said: Said
    fields: dict[str, Any]
    prompt: str
    headers: dict[str, str]
    answers: list[Answer]
    """Those of the first server, three at most, and then that of its fallback."""
    body: bytes = b""
    """The server's, as the client gets it."""
    more: dict[str, str] = field(default_factory=dict[str, str])
    """Headers that this answer has and others have not."""
    leaves_after: int | None = None
    """Pieces, after which the client is gone."""


@st.composite
def requests(draw: st.DrawFn) -> Case:
    case = draw(questions())
    ends = (
        ["whole", "whole", "refused"] + ["throttled"] * (len(case.answers) == 3) + ["cut", "leaves"] * case.asked.stream
    )
    end = draw(st.sampled_from(ends))
    if end in ("refused", "throttled"):
        _refuse(case, draw(seconds), is_throttled=end == "throttled")
    else:
        _answer(draw, case, end)
    return case


@st.composite
def questions(draw: st.DrawFn) -> Case:
    """A request, and what is said of it up to its last attempt."""
    path, prompt = draw(st.sampled_from(sorted(PATHS))), draw(st.sampled_from(["Hi", "x" * 41, "Größe"]))
    user, own_id, named = (draw(st.sampled_from([None, each])) for each in ("ada", "mine", "m-1"))
    named = draw(st.sampled_from([named, "fast"]))
    is_stream = path in STREAMED and draw(st.booleans())
    name = {"/chat/completions": "messages", "/completions": "prompt"}.get(path, "input")
    fields: dict[str, Any] = {name: [{"role": "user", "content": prompt}] if name == "messages" else prompt}
    given = {"stream": is_stream or None, "user": user, "model": named}
    fields |= {name: value for name, value in given.items() if value is not None}
    asked = Asked(path, PATHS[path], body=json.dumps(fields).encode(), stream=is_stream, client=CLIENT)
    asked.own_id, asked.end_user, asked.wants_receipt = own_id, user, draw(st.booleans())
    asked.door = draw(st.sampled_from(["function_url", "rest_api"]))
    headers = ({"x-receipt": "comment"} if asked.wants_receipt else {}) | ({"x-request-id": own_id} if own_id else {})

    kinds = [*RETRIED, *(kind for kind in FAILURES if kind != "no answer" or path != "/moderations")]
    failures = draw(st.sampled_from([0, 0, 1, 2, 3, 3]))
    before = draw(st.lists(st.sampled_from(kinds), min_size=failures, max_size=failures))
    server = "main" if len(before) < 3 else "spare"
    names = {"main": {"fast": "main-fast", "m-1": "m-1"}, "spare": {"fast": "spare-fast"}}
    said = Said(server, names[server].get(named or "", f"{server}-model"))
    said.models = {each: names[each].get(named or "", f"{each}-model") for each in names}
    said.attempt_errors = {place: FAILURES[kind] for place, kind in enumerate(before) if isinstance(kind, str)}
    return Case(asked, said, fields, prompt, headers, [_failing(kind, draw(seconds)) for kind in before])


def _refuse(case: Case, after: float, *, is_throttled: bool) -> None:
    """The last server refuses the request, and its client gets that as it is."""
    status, more = ("429 Later", "retry-after: 70\r\n") if is_throttled else ("400 Bad Request", "")
    case.answers.append(document(REFUSAL, after, status, more))
    case.body, said = REFUSAL, case.said
    said.status, said.chunks, said.size = int(status[:3]), 1, len(REFUSAL)
    if is_throttled:
        subject = {"type": "server", "id": said.server}
        said.throttle = {"source": "upstream", "retry_after": 70.0, "subject": subject}
        case.more = {"retry-after": "70"}
    else:
        said.error = {"type": "upstream_error", "source": "upstream", "upstream_status": 400}


def _answer(draw: st.DrawFn, case: Case, end: str) -> None:
    """The last server answers: to the end, or it is cut, or the client leaves."""
    asked, said, path = case.asked, case.said, case.asked.path
    texts = draw(st.lists(st.sampled_from(["Hello", " wörld", "x" * 9]), min_size=1, max_size=4))
    found = None if end == "cut" else draw(st.none() | some_counts())
    whole = spoken(path, texts, found, is_stream=asked.stream)
    said.id, said.model, said.finish_reasons, said.is_stream = whole.id, whole.model, whole.finish_reasons, asked.stream
    pieces = whole.pieces
    if end == "cut":  # before anything says that it ends
        texts = texts[: draw(st.integers(path != "/responses", len(texts)))]
        pieces, said.finish_reasons = pieces[: len(texts) + (path == "/responses")], []
        said.error = {"type": "upstream_broken_off", "source": "upstream", "upstream_status": None}
    elif end == "leaves":
        case.leaves_after = 1
        said.error = {"type": "client_gone", "source": "client", "upstream_status": None}
    said.size, said.chunks = sum(map(len, pieces)), len(pieces)
    if found:
        said.usage = usage("reported", *found)
    elif path != "/moderations" and texts:
        said.usage = estimated(path, case.prompt, texts, is_stream=asked.stream)
    case.body = b"".join(piece for place, piece in enumerate(pieces) if place != whole.hidden)
    if asked.stream:
        ends = end != "cut" or draw(st.booleans())
        case.answers.append(stream(draw(seconds), *((draw(seconds), piece) for piece in pieces), ends=ends))
    else:
        waits = draw(st.lists(seconds, max_size=2))
        case.answers.append(document(pieces[0], draw(seconds), waits=waits))
        said.chunks += len(waits)


def _failing(kind: str | int, after: float) -> Answer:
    if kind == "nobody":
        return nobody(after)
    if kind == "broken":
        return broken(after)
    status = f"{kind} Oops" if isinstance(kind, int) else "200 OK"
    return document(b"[]" if kind == "no answer" else REFUSAL, after, status, "connection: close\r\n")


def ask(proxy: TimedProxy, case: Case, *, is_first: bool = True) -> Seen:
    """Send the request, and note what the world saw."""
    world, path = proxy.world, f"/main/v1{case.asked.path}"
    world.answers = {"main": case.answers[:3], "spare": case.answers[3:]}
    if case.answers[0].status is None:
        proxy.transport.close()  # nobody is there any more, so there is no connection either
    before, began, tried = world.spent, world.unix(), len(world.tried)
    is_rest = case.asked.door == "rest_api"
    event = (
        rest_event(path, CONTEXT, case.fields, case.headers) if is_rest else url_event(path, case.fields, case.headers)
    )
    client = proxy.call(event, break_after=case.leaves_after)
    return Seen(began, before, client, world.tried[tried:], is_first)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    # One that failed and comes again is not repeated: `test_failed_calls.py` has these.
    cases=st.lists(requests(), min_size=1, max_size=2, unique_by=lambda case: (case.asked.path, case.asked.body)),
    times=st.tuples(seconds, seconds, seconds),
)
def test_all_that_is_said_of_requests_is_what_happened(
    cases: list[Case], times: tuple[float, float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(authorizing=times[0], taking=times[1], publishing=times[2])
    with timed_proxy(world, CONTEXT) as proxy:
        for place, case in enumerate(cases):
            asked, said, seen = case.asked, case.said, ask(proxy, case, is_first=place == 0)
            client = seen.client
            assert proxy.bus.details[place:] == [event_of(asked, said, seen)]
            assert ulid_time(client.headers["x-inference-id"]).timestamp() == math.floor(seen.began * 1000) / 1000
            assert logged(capsys.readouterr().out) == [line_of(asked, said, seen)]
            assert (client.status, client.headers) == (said.status, headers_of(asked, said, seen, **case.more))
            check_body(client.body, case, seen)


def check_body(body: bytes, case: Case, seen: Seen) -> None:
    """What the client got is what the server sent, and after that a receipt, or an error of the proxy's."""
    if case.leaves_after is not None:
        assert case.body.startswith(body)
        return
    rest = body.removeprefix(case.body)
    assert body == case.body + rest
    if case.said.is_stream and case.said.error:
        code = case.said.error["type"]
        assert f'"code": "{code}"'.encode() in rest
        assert rest.endswith(b"data: [DONE]\n\n")
    elif case.said.is_stream and case.asked.wants_receipt:
        assert rest.startswith(b": receipt ")
        assert rest.endswith(b"\n\n")
        assert json.loads(rest.removeprefix(b": receipt ")) == receipt_of(case.asked, case.said, seen)
    else:
        assert rest == b""
