"""What the demo server says: the text of an answer, or the arguments of a call, made from the question alone. Pure.

Nothing here pretends to be a model: a text says that it is a demonstration and repeats what it was sent; arguments and
structured answers are small values that satisfy their schema. A tool is called only where the last message asks for it,
and no block of code is repeated, because an agent carries out what is called, and writes what is in a block.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local.demo.replies import Body, RefusedError, list_of, object_of
from local.demo.schemas.values import value_for

_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")
_REPEATED_TOKENS = 200
_TOOL_WORD = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}")
_ASKS = r"(?:call|use|run|invoke|try)\b[^.!?\n]{0,40}\b"
_CARRIED_OUT = re.compile(r"^[ \t]*(?:`{3}|~{3}|<{5}|\*{3} \w|diff --git |<[A-Za-z][\w-]*>)", re.MULTILINE)
"""Where a text begins to look like a file, an edit or a call: agents that are told so carry it out."""
_NOT_TELLING = frozenset(
    {"call", "demo", "exec", "execute", "find", "function", "get", "list", "make", "run", "tool", "with"}
)
"""Words of tools' names that a message may have without asking for the tool."""
_SAID = "This is the demo server, not a model: it repeats what you send."
_LONGEST_QUOTE = 200
ANY_OBJECT: dict[str, Any] = {"type": "object"}
"""The schema of `json_object`."""
_CACHED_FROM_TOKENS = 1024
_REASONING_TOKENS = 16
_MOST_CHOICES = 8


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called."""

    name: str
    parameters: Any


@dataclass(frozen=True, slots=True)
class Question:
    """What chat completions, text completions and responses have in common, in one form."""

    model: str
    texts: Sequence[str]
    tool: Tool | None = None
    """The function that the answer has to call."""
    schema: Any = None
    """What the answer has to satisfy when it is to be JSON; ANY_OBJECT leaves it open."""
    limit: int | None = None
    stop: Sequence[str] = ()
    choices: int = 1
    reasons: bool = False
    is_result: bool = False
    """The last text is what a tool gave: its agent carries out calls, and nothing that a text says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its tokens as they are streamed, and what it used. With a `tool` the tokens are its arguments."""

    tokens: tuple[str, ...]
    is_cut: bool
    """It ended at the limit of tokens."""
    prompt_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    choices: int = 1
    tool: str | None = None

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the call; none where the limit of tokens cut them."""
        return {} if self.is_cut else object_of(json.loads(self.text))

    @property
    def completion_tokens(self) -> int:
        """The tokens of all choices together. Reasoning is part of them."""
        return (len(self.tokens) + self.reasoning_tokens) * self.choices


def tokenize(text: str) -> list[str]:
    """Words and punctuation marks, each with the white space before it: near enough to tokens."""
    return _TOKEN.findall(text)


def count_tokens(texts: Sequence[str]) -> int:
    """The tokens of all `texts`."""
    return sum(len(tokenize(text)) for text in texts)


def answer(question: Question, demo: Body) -> Answer:
    """The answer. `demo` may set the numbers of tokens, reasoning_tokens and cached_tokens. Raises RefusedError."""
    if not 1 <= question.choices <= _MOST_CHOICES:
        raise RefusedError(400, f"The demo server gives 1 to {_MOST_CHOICES} choices.", "n")
    prompt_tokens = count_tokens(question.texts)
    tokens = _tokens(question, demo)
    is_cut = question.limit is not None and question.limit < len(tokens)
    reasons = question.reasons or question.model == "demo-reasoning"
    # OpenAI's prompt cache works from 1,024 tokens on; here such a prompt's beginning always counts as cached.
    cached = _CACHED_FROM_TOKENS if prompt_tokens >= _CACHED_FROM_TOKENS else 0
    return Answer(
        tokens=tuple(tokens[: question.limit] if is_cut else tokens),
        is_cut=is_cut,
        prompt_tokens=prompt_tokens,
        cached_tokens=demo.get("cached_tokens", cached),
        reasoning_tokens=demo.get("reasoning_tokens", _REASONING_TOKENS if reasons else 0),
        choices=question.choices,
        tool=question.tool.name if question.tool else None,
    )


def _tokens(question: Question, demo: Body) -> list[str]:
    if question.tool is not None:
        return tokenize(json.dumps(value_for(question.tool.parameters)))
    if question.schema == ANY_OBJECT:
        return tokenize(json.dumps({"answer": _SAID, "question": (question.texts or [""])[-1][:_LONGEST_QUOTE]}))
    if question.schema is not None:
        return tokenize(json.dumps(value_for(question.schema)))
    last = question.texts[-1] if question.texts else ""
    quoted = last if question.is_result else _CARRIED_OUT.split(last, maxsplit=1)[0]
    repeated, tokens = tokenize(f" {quoted}")[:_REPEATED_TOKENS], tokenize(_SAID)
    tokens += repeated
    if left_out := max(0, len(tokenize(last)) - len(repeated)):
        tokens += tokenize(f" … and {left_out} more words, which are left out here.")
    if "tokens" in demo:
        tokens = [tokens[index % len(tokens)] for index in range(demo["tokens"])]
    text = "".join(tokens)
    ends = [text.index(stop) for stop in question.stop if stop in text]
    return tokenize(text[: min(ends)]) if ends else tokens


def text_of(content: Any) -> str:
    """The text in a message's content, which is a text or a list of parts, texts or numbers of tokens."""
    if isinstance(content, str):
        return content
    parts = (object_of(part).get("text", "") if isinstance(part, dict) else part for part in list_of(content))
    return " ".join(str(part) for part in parts)


def limit_of(body: Body, *names: str) -> int | None:
    """The first limit of tokens that the request sets. Raises RefusedError."""
    for name in names:
        if (limit := body.get(name)) is not None:
            if not isinstance(limit, int) or limit < 1:
                raise RefusedError(400, f"'{name}' is not a number of tokens.", name)
            return limit
    return None


def tool_to_call(tools: Sequence[Tool], choice: Any, last: str) -> Tool | None:
    """The one that `tool_choice` names, or the first if it asks for any, or the one that the `last` message asks for.

    Raises RefusedError when there is no such tool.
    """
    named = object_of(choice)
    if choice == "none" or not tools:
        return None
    if not choice or "auto" in (choice, named.get("type")):
        return next((tool for tool in tools if _asks_for(tool, last, is_only=len(tools) == 1)), None)
    name = (object_of(named.get("function")) or named).get("name")
    found = next((tool for tool in tools if name in (None, tool.name)), None)
    if found is None:
        raise RefusedError(400, f"There is no tool '{name}'.", "tool_choice")
    return found


def _asks_for(tool: Tool, text: str, *, is_only: bool) -> bool:
    """Whether `text` says to call a tool by its name; of an only one a word of its name is enough, as `weather` is."""
    if re.search(rf"\b{_ASKS}{re.escape(tool.name)}\b", text, re.IGNORECASE):
        return True
    words = [word.lower() for word in _TOOL_WORD.findall(tool.name)] if is_only else []
    return any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in words if word not in _NOT_TELLING)


def schema_of(form: Any, place: str) -> Any:
    """The schema that the answer has to satisfy: `json_schema` has one at `place`, `json_object` any object."""
    fields = object_of(form)
    if fields.get("type") == "json_schema":
        return object_of(fields.get(place) if place else fields).get("schema", {})
    return ANY_OBJECT if fields.get("type") == "json_object" else None
