"""A clock that the tests of time limits move."""

import time
from collections.abc import Iterator

import pytest

from tests.fakes import Clock


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    """It is what `time.monotonic` says to one module of tests."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock)
        yield clock
