"""When workers are started again, and the text that outlives one."""

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.workers.memory import SharedText
from proxy.workers.slots import Slots

from tests.examples import examples

LONGEST_PAUSE = 5.0


@settings(max_examples=examples(30))
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 9), st.floats(0.0, 30.0)), max_size=40))
def test_each_slot_has_one_worker_or_is_due_soon(count: int, steps: list[tuple[int, float]]) -> None:
    slots, now, process = Slots(count), 0.0, 0
    for choice, seconds in steps:
        for slot in slots.due(now):
            process += 1
            slots.started(slot, process, now)
        assert slots.due(now) == []
        assert len(slots.running) == count or (slots.wait(now) or 0.0) > 0.0
        assert not (slots.is_hopeless and slots.running)
        now += seconds
        if slots.running:
            slots.ended(slots.running[choice % len(slots.running)], now)
        assert (slots.wait(now) or 0.0) <= LONGEST_PAUSE
    assert len(slots.due(now + LONGEST_PAUSE)) + len(slots.running) == count


def test_pauses_grow_and_a_worker_that_works_for_a_while_begins_anew() -> None:
    slots, pauses = Slots(1), list[float]()
    for lifetime in (0.0,) * 9 + (10.0, 9.9):
        slots.started(0, 1, 100.0)
        slots.ended(1, 100.0 + lifetime)
        pauses.append(slots.wait(100.0 + lifetime) or 0.0)
    assert [round(pause, 6) for pause in pauses] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.0, 0.1]


def test_nothing_is_expected_any_more_when_every_worker_has_failed_five_times_in_a_row() -> None:
    slots = Slots(2)
    for _ in range(5):
        for slot in (0, 1):
            assert not slots.is_hopeless
            slots.started(slot, slot + 1, 0.0)
        for process in (1, 2):
            slots.ended(process, 1.0)
    assert slots.is_hopeless
    slots.started(0, 3, 9.0)
    assert not slots.is_hopeless
    slots.ended(77, 9.0)
    assert slots.running == [3]


def test_one_that_cannot_be_started_is_tried_later() -> None:
    slots = Slots(1)
    slots.failed(0, 1.0)
    slots.failed(0, 1.0)
    assert slots.due(1.05) == []
    assert slots.due(1.1) == [0]


@settings(max_examples=examples(20))
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_the_last_text_is_there_until_it_is_cleared(texts: list[bytes]) -> None:
    memory = SharedText()
    assert memory.get() == b""
    for text in texts:
        memory.put(text)
        assert memory.get() == text
    memory.clear()
    assert memory.get() == b""


class Stopping:
    """Memory of a worker that is killed after some of its writes."""

    def __init__(self, memory: Any, writes: int) -> None:
        self.memory, self.writes = memory, writes

    def __getitem__(self, place: slice) -> bytes:
        return self.memory[place]

    def __setitem__(self, place: slice, data: bytes) -> None:
        if self.writes:
            self.writes -= 1
            self.memory[place] = data


@given(st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 3))
def test_whenever_a_worker_is_killed_its_text_is_whole_or_none(before: bytes, text: bytes, writes: int) -> None:
    memory = SharedText()
    memory.put(before)
    memory._memory = cast("Any", Stopping(memory._memory, writes))
    memory.put(text)
    assert memory.get() == (before, b"", b"", text)[writes]


def test_a_text_without_room_is_not_kept_and_leaves_none() -> None:
    memory = SharedText()
    memory.put(bytes(2**20 - 8))
    assert len(memory.get()) == 2**20 - 8
    memory.put(bytes(2**20 - 7))
    assert memory.get() == b""
