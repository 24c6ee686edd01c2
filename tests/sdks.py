"""The SDKs of clients, imported by whoever first uses one: that takes seconds, and every worker collects all tests."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["anthropic", "openai"]

if TYPE_CHECKING:
    import anthropic
    import openai
else:

    class _Late:
        """Stands for a module. With Python's own LazyLoader it would load when pytest asks whether it is a class."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):  # as pytest looks for, in all that a test module names
                raise AttributeError(name)
            return getattr(import_module(self._name), name)

    anthropic = _Late("anthropic")
    openai = _Late("openai")
