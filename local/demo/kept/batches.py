"""The demo server's batches: they run at once, each line of the input file as a request of its own."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from local.demo.kept.files import Files
from local.demo.kept.shelf import Place, page
from local.demo.replies import Body, RefusedError, new_id, now, object_of

MOST_BATCHES = 100
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations")

Ask = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]
"""Answers the request of one line: path and body to status and JSON."""


class Batches:
    """The batches by their ids, oldest first; like files, the oldest are forgotten."""

    def __init__(self, files: Files, ask: Ask, delay: float) -> None:
        self._files = files
        self._ask = ask
        self._delay = delay
        self._batches: dict[str, dict[str, Any]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def places(self) -> list[Place]:
        """What is answered below `/batches`."""
        required = ("input_file_id", "endpoint", "completion_window")
        return [
            Place("POST", "/v1/batches", lambda asked: self.create(asked.body), required),
            Place("GET", "/v1/batches", lambda asked: self.listed(asked.query)),
            Place("GET", "/v1/batches/{id}", lambda asked: self.get(asked.id)),
            Place("POST", "/v1/batches/{id}/cancel", lambda asked: self.cancel(asked.id)),
        ]

    def create(self, body: Body) -> dict[str, Any]:
        """`POST /batches`: begin to run it. Raises RefusedError."""
        if body["endpoint"] not in ENDPOINTS:
            raise RefusedError(400, f"'{body['endpoint']}' is not one of {', '.join(ENDPOINTS)}.", "endpoint")
        lines = self._files.get(str(body["input_file_id"])).content.splitlines()
        batch: dict[str, Any] = {
            "id": new_id("batch_"),
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"],
            "status": "validating",
            "created_at": now(),
            "expires_at": now() + 24 * 3600,
            "metadata": body.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }
        self._batches[batch["id"]] = batch
        begun = dict(batch)
        self._running[batch["id"]] = asyncio.create_task(self._run(batch, lines))
        while len(self._batches) > MOST_BATCHES:
            self._forget(next(iter(self._batches)))
        return begun

    def get(self, batch_id: str) -> dict[str, Any]:
        """`GET /batches/{id}`. Raises RefusedError."""
        found = self._batches.get(batch_id)
        if found is None:
            raise RefusedError(404, f"No batch found with id '{batch_id}'.", "batch_id")
        return found

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """`POST /batches/{id}/cancel`: what is done stays done. Raises RefusedError."""
        batch = self.get(batch_id)
        if batch["status"] in ("validating", "in_progress"):
            self._running[batch_id].cancel()
            batch |= {"status": "cancelled", "cancelling_at": now(), "cancelled_at": now()}
        return batch

    def listed(self, query: Mapping[str, str]) -> dict[str, Any]:
        """`GET /batches`, newest first."""
        return page(list(self._batches.values())[::-1], query)

    def _forget(self, batch_id: str) -> None:
        del self._batches[batch_id]
        self._running.pop(batch_id).cancel()

    async def _run(self, batch: dict[str, Any], lines: list[bytes]) -> None:
        await asyncio.sleep(self._delay)
        try:
            requests = [_request(line, batch["endpoint"]) for line in lines if line.strip()]
        except RefusedError as refusal:
            fault = {"code": "invalid_json_line", "message": str(refusal), "param": None, "line": None}
            batch |= {"status": "failed", "failed_at": now(), "errors": {"object": "list", "data": [fault]}}
            return
        counts = {"total": len(requests), "completed": 0, "failed": 0}
        batch |= {"status": "in_progress", "in_progress_at": now(), "request_counts": counts}
        written: dict[str, list[dict[str, Any]]] = {"completed": [], "failed": []}
        for request in requests:
            await asyncio.sleep(self._delay)
            status, answer = self._ask(batch["endpoint"], request["body"])
            kind = "completed" if status < 400 else "failed"
            written[kind].append(_line(request["custom_id"], status, answer))
            counts[kind] += 1
        batch |= {
            "status": "completed",
            "completed_at": now(),
            "output_file_id": self._write(batch["id"], "output", written["completed"]),
            "error_file_id": self._write(batch["id"], "error", written["failed"]),
            "usage": _usage([line["response"]["body"] for line in written["completed"]]),
        }

    def _write(self, batch_id: str, kind: str, lines: list[dict[str, Any]]) -> str | None:
        if not lines:
            return None
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return self._files.keep(f"{batch_id}_{kind}.jsonl", content, "batch_output")["id"]


def _request(line: bytes, endpoint: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if request["url"] == endpoint and isinstance(request["body"], dict) and "custom_id" in request:
            return request
    except (ValueError, TypeError, KeyError) as error:
        raise RefusedError(400, "A line of the input file is not a request in JSON.") from error
    raise RefusedError(400, f"A line of the input file is not a request to {endpoint} with a custom_id.")


def _line(custom_id: Any, status: int, answer: dict[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": new_id("req_"), "body": answer}
    return {"id": new_id("batch_req_"), "custom_id": custom_id, "response": response, "error": None}


def _usage(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum of what the batch's requests used."""
    told = [object_of(answer.get("usage")) for answer in answers]
    given = sum(usage.get("prompt_tokens", usage.get("input_tokens", 0)) for usage in told)
    made = sum(usage.get("completion_tokens", usage.get("output_tokens", 0)) for usage in told)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + made,
    }
