"""The clients that are tried, as their users know them: what is installed, from where, and the probe that uses it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PROBES = Path(__file__).parent / "probes"
LANGUAGES = {".py": "python", ".mjs": "js", ".sh": "sh"}
_LITELLM = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""It asks the network for prices at its start, and this machine may have none beside the package registries."""


class Client(NamedTuple):
    """A client. A probe gets the name of a model, and one of the words `chat`, `stream` and `tool`."""

    name: str
    probe: str
    packages: Sequence[str]
    environ: Mapping[str, str] = {}
    """Keeps it from calling others than the proxy and the registries."""
    from_npm: bool = False

    @property
    def language(self) -> str:
        """What its probe is written in."""
        return LANGUAGES[Path(self.probe).suffix]

    @property
    def settings(self) -> str:
        """The lines of its probe that a user needs."""
        text = (PROBES / self.probe).read_text(encoding="utf-8")
        return re.findall(r"(?:#|//) settings\n(.*?)(?:#|//) end\n", text, re.DOTALL)[0].rstrip()


CLIENTS = (
    Client("openai (Python)", "with_openai_python.py", ["openai"]),
    Client("openai (Node)", "with_openai_node.mjs", ["openai"], from_npm=True),
    Client("LangChain", "with_langchain.py", ["langchain-openai"]),
    Client("LlamaIndex", "with_llama_index.py", ["llama-index-llms-openai-like"]),
    Client("pydantic-ai", "with_pydantic_ai.py", ["pydantic-ai-slim[openai]"]),
    Client("instructor", "with_instructor.py", ["instructor"]),
    Client("openai-agents", "with_openai_agents.py", ["openai-agents"]),
    Client("Vercel AI SDK", "with_vercel_ai.mjs", ["ai", "@ai-sdk/openai-compatible"], from_npm=True),
    Client("LiteLLM", "with_litellm.py", ["litellm"], _LITELLM),
    Client("DSPy", "with_dspy.py", ["dspy"], _LITELLM),
    Client("Haystack", "with_haystack.py", ["haystack-ai"], {"HAYSTACK_TELEMETRY_ENABLED": "False"}),
    Client("llm", "with_llm_cli.sh", ["llm"]),
    Client("aider", "with_aider.sh", ["aider-chat"], _LITELLM),
    Client("codex", "with_codex.sh", ["@openai/codex"], from_npm=True),
    Client(
        "opencode",
        "with_opencode.sh",
        ["opencode-ai"],
        {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"},
        from_npm=True,
    ),
    Client("continue", "with_continue.sh", ["@continuedev/cli"], {"CONTINUE_TELEMETRY_ENABLED": "0"}, from_npm=True),
)
BY_HAND = """
Open WebUI is too large for `make clients` (1.7 GB without PyTorch, 3.6 GB with it) and was run by hand on
2026-11-30. Version 0.12.4, asked through its own HTTP API, made 1 call for a question and 1 for a stream, and showed
the text of an error. A server that always answers 500 got 2 calls, directly 1; one that answers 429 got 1, directly 1.

**Open WebUI**

```sh
export OPENAI_API_BASE_URL="$OPENAI_BASE_URL"  # the key is OPENAI_API_KEY
export ENABLE_OLLAMA_API=false RAG_EMBEDDING_ENGINE=openai  # it loads no model of its own
open-webui serve
```
"""
"""What docs/clients.md says of a program that people use with a proxy, and that is run by hand."""
