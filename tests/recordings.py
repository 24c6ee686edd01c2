"""The recorded answers of real servers, and what each of them is: `data/streams/index.yaml`."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

STREAMS = Path(__file__).parent / "data" / "streams"


@cache
def recorded() -> list[dict[str, Any]]:
    """The entries of the index, one a recording. Nobody may change them: every test module gets the same list."""
    # Each worker reads it while it collects tests, so it is read with libyaml: in a tenth of the time.
    return yaml.load((STREAMS / "index.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
