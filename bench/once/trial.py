"""Many consumers of one client's events at a time, which are killed, and given events twice, by chance.

One rule: what a consumer has not said that it has recorded comes again, as from SQS, and nothing else is done for it.
"""

import json
import random
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench.once.sent import record_of
from bench.processes import ROOT
from bench.units import BATCH

_TOGETHER = 100
"""So many events come again together, as those of a consumer whose time has run out."""
_FAR = 0.1
"""The share of those that come twice that come again much later; the others a moment later."""
_NEAR = 200
"""So many places may an event come before or after its turn."""
_MOMENT = 0.05
"""The longest time, in seconds, that passes between a batch and the kill that meets its consumer."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried. `doubled`, `refused` and `killed` are shares: of events, of transactions, of batches. `alone` is
    the share of events that come twice without those around them.
    """

    events: int
    consumers: int = 10
    doubled: float = 0.2
    alone: float = 0.02
    refused: float = 0.12
    killed: float = 0.01
    seed: int = 1


@dataclass(slots=True)
class Tried:
    """How the trial went, beside what is in the table."""

    batches: int = 0
    deliveries: int = 0
    kills: int = 0
    again: int = 0
    """Events that came again because their consumer was killed, or said that they have to."""


@dataclass(slots=True)
class Deliveries:
    """The queue: numbers of events in the order in which they are delivered, and how many are under way."""

    waiting: deque[int]
    tried: Tried = field(default_factory=Tried)
    _under_way: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self) -> list[int]:
        """The next batch; none when everything is recorded."""
        with self._changed:
            self._changed.wait_for(lambda: self.waiting or not self._under_way)
            batch = [self.waiting.popleft() for _ in range(min(BATCH, len(self.waiting)))]
            self._under_way += len(batch)
            self.tried.batches += bool(batch)
            self.tried.deliveries += len(batch)
            return batch

    def done(self, batch: list[int], again: Iterable[int], *, is_killed: bool) -> None:
        """A batch has ended: those that come `again` come a little later."""
        with self._changed:
            before = len(self.waiting)
            self.waiting.extend(again)
            self.tried.again += len(self.waiting) - before
            self.tried.kills += is_killed
            self._under_way -= len(batch)
            self._changed.notify_all()


def deliveries(trial: Trial, chance: random.Random) -> deque[int]:
    """Each event at least once, not quite in order, and some twice: together with their neighbours, or alone."""

    def later() -> float:
        return chance.uniform(0, trial.events if chance.random() < _FAR else _NEAR)

    places = [(number + chance.uniform(0, _NEAR), number) for number in range(trial.events)]
    places += [(number + later(), number) for number in range(trial.events) if chance.random() < trial.alone]
    for first in range(0, trial.events, _TOGETHER):
        if chance.random() < trial.doubled:
            last = min(first + _TOGETHER, trial.events)
            place = last + _NEAR + later()
            places += [(place, number) for number in range(first, last)]
    return deque(number for _, number in sorted(places))


class Consumer:
    """One place for a consumer: when it is killed, another one is started in it."""

    def __init__(self, endpoint: str, trial: Trial, place: int) -> None:
        self._endpoint, self._trial, self._place = endpoint, trial, place
        self._chance = random.Random(f"{trial.seed}.{place}")  # noqa: S311 - the same in every run
        self._started = 0
        self._process = self._start()

    def work(self, queue: Deliveries) -> None:
        """Record batches until there are none."""
        batch: list[int] = []
        try:
            while batch := queue.take():
                answer = self._record(batch)
                queue.done(batch, batch if answer is None else answer, is_killed=answer is None)
        except BaseException:
            queue.done(batch, batch, is_killed=False)
            raise
        finally:
            self._process.kill()
            self._process.communicate()

    def _record(self, batch: list[int]) -> list[int] | None:
        """The events that come again; None if the consumer was killed before it could say so."""
        line = json.dumps({"Records": [record_of(number) for number in batch]})
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{line}\n")
        stdin.flush()
        if self._chance.random() < self._trial.killed:
            time.sleep(self._chance.uniform(0, _MOMENT))
            self._process.kill()
        answer = stdout.readline()
        if not answer.endswith("\n"):
            self._process.communicate()
            if self._process.returncode != -9:
                raise RuntimeError(f"a consumer ended with status {self._process.returncode}")
            self._process = self._start()
            return None
        return [int(each["itemIdentifier"]) for each in json.loads(answer)["batchItemFailures"]]

    def _start(self) -> subprocess.Popen[str]:
        self._started += 1
        seed = f"{self._trial.seed}.{self._place}.{self._started}"
        command = [sys.executable, "-m", "bench.once.consumer", self._endpoint, str(self._trial.refused), seed]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run(trial: Trial, endpoint: str) -> Tried:
    """Have everything recorded in the table at `endpoint`, which is empty. Raises RuntimeError if a consumer fails."""
    queue = Deliveries(deliveries(trial, random.Random(trial.seed)))  # noqa: S311 - the same in every run
    with ThreadPoolExecutor(trial.consumers) as pool:
        started = [pool.submit(_work, endpoint, trial, place, queue) for place in range(trial.consumers)]
        for each in started:
            each.result()
    return queue.tried


def _work(endpoint: str, trial: Trial, place: int, queue: Deliveries) -> None:
    Consumer(endpoint, trial, place).work(queue)
