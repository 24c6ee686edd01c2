"""What docs/clients.md says of the clients that were tried, made of what is written down of each."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "clients.md"
PROBES = Path(__file__).parent / "probes"
RESULTS = Path(__file__).parent / "results.json"
BEGIN, END = "<!-- written by make clients -->\n", "<!-- end -->\n"


class Client(NamedTuple):
    """A client as its users know it: what is installed, from where, and the probe that uses it."""

    name: str
    probe: str
    packages: Sequence[str]

    @property
    def is_node(self) -> bool:
        """Whether it comes from npm; else it is from PyPI."""
        return self.probe.endswith(".mjs")


CLIENTS = (
    Client("openai (Python)", "with_openai_python.py", ["openai"]),
    Client("openai (Node)", "with_openai_node.mjs", ["openai"]),
    Client("LangChain", "with_langchain.py", ["langchain-openai"]),
    Client("LlamaIndex", "with_llama_index.py", ["llama-index-llms-openai-like"]),
    Client("pydantic-ai", "with_pydantic_ai.py", ["pydantic-ai-slim[openai]"]),
    Client("instructor", "with_instructor.py", ["instructor"]),
    Client("openai-agents", "with_openai_agents.py", ["openai-agents"]),
    Client("Vercel AI SDK", "with_vercel_ai.mjs", ["ai", "@ai-sdk/openai-compatible"]),
    Client("LiteLLM", "with_litellm.py", ["litellm"]),
    Client("DSPy", "with_dspy.py", ["dspy"]),
    Client("Haystack", "with_haystack.py", ["haystack-ai"]),
    Client("llm", "with_llm_cli.sh", ["llm"]),
)
NOT_TRIED = "aider, codex, opencode, continue, Open WebUI"
"""Programs that people use with a proxy, and that are not run here."""


class Result(NamedTuple):
    """What came of one client: its version, the answers, and the server's calls of each of the three questions."""

    version: str
    chat: str
    stream: str
    calls: Sequence[int]


def settings_of(client: Client) -> str:
    """The lines of a probe that a user needs."""
    text = (PROBES / client.probe).read_text(encoding="utf-8")
    return re.findall(r"(?:#|//) settings\n(.*?)(?:#|//) end\n", text, re.DOTALL)[0].rstrip()


def results() -> dict[str, Result]:
    """What is written down of each client, by its name; what did not install has no version."""
    found: dict[str, list[Any]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return {name: Result(*result) for name, result in found.items()}


def keep(client: Client, result: Result) -> None:
    """Write down what came of a client, and the page anew."""
    RESULTS.write_text(json.dumps(results() | {client.name: result}, indent=2) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table_of(results()) + END + rest.partition(END)[2], encoding="utf-8")


def table_of(found: Mapping[str, Result]) -> str:
    """The part of the page that was measured."""
    rows = "".join(row_of(client, found[client.name]) for client in CLIENTS if client.name in found)
    left_out = [client.name for client in CLIENTS if client.name not in found]
    languages = {".py": "python", ".mjs": "js", ".sh": "sh"}
    parts = "".join(
        f"\n**{client.name}**\n\n```{languages[Path(client.probe).suffix]}\n{settings_of(client)}\n```\n"
        for client in CLIENTS
        if client.name in found and found[client.name].chat
    )
    return (
        "| client | version | a question | a stream | calls of a server that always answers 500 |\n"
        "|---|---|---|---|---|\n"
        f"{rows}\nNot run here: {', '.join([*left_out, NOT_TRIED])}.\n"
        f"An SDK that calls such a server itself calls it three times.\n{parts}"
    )


def row_of(client: Client, result: Result) -> str:
    """The row of one client."""
    if not result.version:
        return f"| {client.name} | does not install here | | | |\n"
    chat, stream = (f"yes, {_times(calls)}" if said else "no" for said, calls in _both(result))
    return f"| {client.name} | {result.version} | {chat} | {stream} | {result.calls[2]} |\n"


def _both(result: Result) -> Sequence[tuple[str, int]]:
    return (result.chat, result.calls[0]), (result.stream, result.calls[1])


def _times(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls} calls"
