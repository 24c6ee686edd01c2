"""Running cases against a deployment that lists the fault server, by URL and client key.

Its one rule: a case that is not run is shown with the reason, never left out.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from conformance.case import Case, Seen, Sent
from conformance.checks import complaints
from conformance.client import Call, HttpClient, NoAnswerError
from conformance.server import PROBE, PROGRESS
from conformance.wire import PLACE, object_of

_WRONG_KEY = "opx-" + "0" * 43

_NOT_NOW = "authorization_unavailable"
"""The deployment could not look at the client key just then, as its `Retry-After` says: that is no answer to a case."""
_MOST_TRIES = 5
_PAUSE_SECONDS = 1.0

Verdict = Literal["pass", "fail", "skip"]


class UnreachableError(Exception):
    """The deployment does not lead to the fault server. The message says what came instead."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one case. `request_id` is the answer's; `why` has every complaint, or the reason of a skip."""

    case: Case
    verdict: Verdict
    why: str = ""
    seconds: float = 0.0
    request_id: str | None = None

    def as_json(self) -> dict[str, str | float | None]:
        """The result without the case's contents."""
        return {
            "case": self.case.name,
            "verdict": self.verdict,
            "why": self.why,
            "seconds": round(self.seconds, 3),
            "request_id": self.request_id,
        }


class Deployment:
    """A proxy at `{public url}/{server}`: the fault server is behind `server`, with this client key."""

    def __init__(self, url: str, key: str, *, longest: float = 5.0, rest_api: bool = False) -> None:
        parts = urlsplit(url.rstrip("/").removesuffix("/v1"))
        self._root, _, self.server = parts.path.rpartition("/")
        if not self.server:
            raise ValueError(f"{url!r} names no server: {{public url}}/{{server}}")
        self._client = HttpClient(f"{parts.scheme}://{parts.netloc}")
        self._key = key
        self._longest = longest
        self._rest_api = rest_api
        self._missing: dict[str, str] = {}

    def look(self, cases: Iterable[Case]) -> None:
        """See which servers of the cases the deployment lists. Raises UnreachableError when not even the first."""
        for suffix in sorted({"", *(case.ask.server for case in cases)}):
            seen = self._get(suffix, PROBE, secrets.token_hex(8))
            if seen.status == 200 and "received" in seen.fields:
                continue
            if not suffix:
                came = f"a probe is answered {seen.status} {seen.body[:200]!r}"
                raise UnreachableError(f"The fault server is not behind '{self.server}': {came}")
            if seen.status in (403, 404):
                self._missing[suffix] = f"needs the server '{self.server}{suffix}' ({seen.status})"

    def run(self, case: Case) -> Result:
        """Run one case."""
        if case.seconds > self._longest:
            return Result(case, "skip", f"takes {case.seconds:.0f} seconds: allow it with --longest")
        if case.url_only and self._rest_api:
            return Result(case, "skip", "is for the function URL: the REST API decides this itself")
        if missing := self._missing.get(case.ask.server):
            return Result(case, "skip", missing)
        began = time.monotonic()
        try:
            sent, seen = self._exchange(case)
        except (NoAnswerError, UnreachableError) as error:
            return Result(case, "fail", str(error), time.monotonic() - began)
        wrong = complaints(case, sent, seen)
        request_id = next(iter(seen.values("x-request-id")), None)
        return Result(case, "fail" if wrong else "pass", "; ".join(wrong), time.monotonic() - began, request_id)

    def _exchange(self, case: Case, tries: int = _MOST_TRIES) -> tuple[Sent, Seen]:
        run = secrets.token_hex(8)
        call = self._call(case, run)
        watcher = _Watcher(case, lambda events: self._get("", f"{PROGRESS}&got={events}", run))
        seen = self._client.call(call, watcher.on_body)
        if _is_not_now(seen) and tries > 1:
            time.sleep(_PAUSE_SECONDS)
            return self._exchange(case, tries - 1)
        watcher.on_end()
        return Sent(run, call.body, tuple(call.headers.items()), self.server), seen

    def run_all(self, cases: Iterable[Case], parallel: int = 4) -> Iterator[Result]:
        """Run cases, several at a time; results in the order of the cases."""
        with ThreadPoolExecutor(parallel) as threads:
            yield from threads.map(self.run, cases)

    def _call(self, case: Case, run: str) -> Call:
        ask = case.ask
        names = {"case": case.model, "server": self.server}
        body, content_type = ask.content(names)
        base = self._root if ask.from_root else f"{self._root}/{self.server}{ask.server}/v1"
        headers = {"x-request-id": f"conformance-{run}", "accept-encoding": "identity", **self._authorization(ask.key)}
        if content_type and (body or ask.method != "GET"):
            headers["content-type"] = content_type
        headers = {name: value for name, value in {**headers, **dict(ask.headers)}.items() if value}
        place = PLACE.decode()
        target = (base + ask.path.format(**names)).replace(place, run)
        return Call(ask.method, target, headers, body.replace(PLACE, run.encode()), ask.chunked)

    def _authorization(self, key: Literal["client", "none", "wrong"]) -> dict[str, str]:
        return {} if key == "none" else {"authorization": f"Bearer {self._key if key == 'client' else _WRONG_KEY}"}

    def _get(self, suffix: str, name: str, run: str, tries: int = _MOST_TRIES) -> Seen:
        """Ask the fault server itself something. Raises UnreachableError."""
        path, _, query = name.partition("&")
        target = f"{self._root}/{self.server}{suffix}/v1/models/conformance-{path}?user={run}&{query}"
        try:
            seen = self._client.call(Call("GET", target, self._authorization("client")))
        except NoAnswerError as error:
            raise UnreachableError(f"{target}: {error}") from error
        if _is_not_now(seen) and tries > 1:
            time.sleep(_PAUSE_SECONDS)
            return self._get(suffix, name, run, tries - 1)
        return seen


def _is_not_now(seen: Seen) -> bool:
    return object_of(seen.fields.get("error")).get("code") == _NOT_NOW


class _Watcher:
    """Tells the server how far its client has got, or makes the client leave, where a case wants that."""

    def __init__(self, case: Case, tell: Callable[[int], object]) -> None:
        self._reports, self._leaves = case.ask.reports, case.ask.leaves
        self._tell = tell
        self._events = 0

    def on_body(self, body: bytearray) -> bool:
        if self._reports or self._leaves:
            events = body.count(b"\n\n")
            if self._reports and events > self._events:
                self._tell(events)
            self._events = events
        return not (self._leaves and self._events)

    def on_end(self) -> None:
        if self._leaves:
            self._tell(self._events)


def as_table(results: Iterable[Result]) -> str:
    """Case, verdict and reason in columns."""
    rows = [(result.case.name, result.verdict, result.why) for result in results]
    width = max((len(name) for name, _, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {verdict:<4}  {why}".rstrip() for name, verdict, why in rows)


def as_json(results: Iterable[Result]) -> str:
    """The results for programs."""
    return json.dumps([result.as_json() for result in results], indent=1)
