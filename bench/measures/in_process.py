"""What signing a request and metering an answer cost by themselves: CPU of this process, without any sandbox around.

Each figure is the least of several rounds, in which the things that are compared take turns: what else the machine
does makes a round longer and never shorter. So their ratios hold where the milliseconds do not.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openai_proxy.servers import Server, parse_servers
from proxy.aws.sigv4 import Credentials
from proxy.http.wire import Outgoing
from proxy.metering.meter import AnswerTraits, Meter
from proxy.upstream.sign_in import signed_by_role

SIZES: Mapping[str, int] = {"2 KB": 2_000, "6 MB": 6_000_000}
_CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a session token" * 40)
_HEADERS = {"content-type": "application/json", "user-agent": "OpenAI/Python 2.0.0", "accept": "text/event-stream"}
_TEXT, _CHUNKS = " token", 64


@dataclass(frozen=True, slots=True)
class Signing:
    """Milliseconds to sign in with a body, and to hash it alone."""

    size: str
    signed: float
    hashed: float


def signing(rounds: int) -> list[Signing]:
    """Sign a request for Bedrock with a body of each of `SIZES`, and SHA-256 over that body."""
    server = _bedrock()
    found: list[Signing] = []
    for name, size in SIZES.items():
        body = b"x" * size
        outgoing = Outgoing("POST", f"{server.url}/chat/completions", _HEADERS, body)
        sign, digest = _least(
            rounds,
            max(1, 2_000_000 // size),
            lambda each=outgoing: signed_by_role(server, each, _CREDENTIALS),
            lambda each=body: hashlib.sha256(each).hexdigest(),
        )
        found.append(Signing(name, sign, digest))
    return found


def metering(rounds: int) -> tuple[float, float]:
    """Milliseconds to meter a stream of 64 chunks of a chat, and one of a message that says the same."""
    chat, message = ([each.encode() for each in pieces] for pieces in (_chat(), _message()))
    of_chat, of_message = _least(rounds, 200, lambda: _metered(chat), lambda: _metered(message))
    return of_chat, of_message


def _bedrock() -> Server:
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1"
    return parse_servers(f"bedrock: {{url: '{url}', auth: aws, model: m}}")["bedrock"]


def _least(rounds: int, times: int, *works: Callable[[], object]) -> list[float]:
    """The fewest milliseconds of CPU that each of `works` takes."""
    least = [float("inf")] * len(works)
    for _ in range(rounds):
        for number, work in enumerate(works):
            began = time.process_time()
            for _ in range(times):
                work()
            least[number] = min(least[number], (time.process_time() - began) * 1000 / times)
    return least


def _metered(pieces: Sequence[bytes]) -> None:
    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True, one_choice=True))
    for piece in pieces:
        meter.see(piece)
    meter.end()
    if meter.usage.output_tokens != _CHUNKS:
        raise RuntimeError(f"a stream was not metered: {meter.usage}")


def _chat() -> list[str]:
    frame: dict[str, Any] = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    texts: list[dict[str, Any]] = [{"index": 0, "delta": {"content": _TEXT}, "finish_reason": None}] * _CHUNKS
    choices: list[dict[str, Any]] = [*texts, {"index": 0, "delta": {}, "finish_reason": "stop"}]
    usage: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": _CHUNKS}}
    events = [json.dumps(frame | each) for each in [*({"choices": [choice]} for choice in choices), usage]]
    return [f"data: {event}\n\n" for event in [*events, "[DONE]"]]


def _message() -> list[str]:
    message: dict[str, Any] = {
        "id": "m-1",
        "type": "message",
        "model": "m",
        "content": [],
        "usage": {"input_tokens": 5},
    }
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": _TEXT}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[delta] * _CHUNKS,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": _CHUNKS}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
