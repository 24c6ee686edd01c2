"""`make pictures`: the README's pictures of a running local stack: a moving one, the playground, two weeks of costs.

What is seen of the playground is a chat with the demo server. The report is of events that are put on the stack's bus
and go through its queues, consumers and ledger as all events do; who asked what in them is invented.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from PIL import Image
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from tests.e2e.browser.chromium import find_chromium
from tests.e2e.browser.moving_picture import save_moving_picture
from tests.e2e.browser.visit import Visit
from tests.e2e.harness import ROOT, LocalStack, start, wait_for

IMAGES = ROOT / "docs/images"
MOST_BYTES = 120_000
COLOURS = 200
DAYS = 14
REQUESTS_A_DAY = 24
SIZE: ViewportSize = {"width": 1160, "height": 760}
QUESTION = """Show **this**:

```js
for await (const chunk of stream) {
  print(chunk.choices[0].delta.content)
}
```"""

NO_ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
CLIENTS = {"web-shop": 6, "support-bot": 3, "research": 2}
MODELS = {("openai", "gpt-5.4-mini"): 6, ("openai", "gpt-5.4"): 1, ("mistral", "mistral-small-latest"): 3}
SAMPLES = {"InferenceCompleted.chat-stream": 30, "InferenceFailed.upstream-error": 1, "InferenceThrottled.key-rpm": 1}


def main() -> None:
    """Start a stack, use it, take the pictures, stop it."""
    command = find_chromium()
    if command is None:
        sys.exit("No Chromium on this machine: apt-get install chromium-headless-shell, or name one in CHROMIUM.")
    IMAGES.mkdir(parents=True, exist_ok=True)
    os.environ.update(NO_ACCOUNT)
    with tempfile.TemporaryDirectory() as folder:
        stack = start(Path(folder) / "stack")
        os.environ.update(stack.environment)
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=command)
                save_moving_picture(browser, stack, IMAGES / "demo.gif")
                _save(_playground(browser, stack), IMAGES / "playground.png")
                _save(_report(browser, stack, Path(folder)), IMAGES / "costs.png")
                browser.close()
        finally:
            stack.stop()


def _playground(browser: Browser, stack: LocalStack) -> bytes:
    page = browser.new_page(viewport=SIZE, device_scale_factor=1.25, color_scheme="light")
    visitor = Visit(page)
    page.goto(stack.url)
    visitor.connect(stack.key)
    visitor.ask("demo", QUESTION, server="demo")
    visitor.wait()
    expect(visitor.figure("Cost")).to_contain_text("$", timeout=60_000)
    page.evaluate("document.activeElement.blur()")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    return page.screenshot()


def _report(browser: Browser, stack: LocalStack, folder: Path) -> bytes:
    random, now = Random(8), datetime.now(UTC)
    days = [now - timedelta(days=number) for number in reversed(range(DAYS))]
    made = [event for day in days for event in _events(random, day, stack.environment["BUS_NAME"])]
    events = stack.aws("events")
    for first in range(0, len(made), 10):
        failed = events.put_events(Entries=made[first : first + 10])["FailedEntryCount"]
        assert failed == 0
    recorded = sum(entry["DetailType"] != "InferenceThrottled" for entry in made)
    table = stack.table("COSTS_TABLE")
    wait_for(lambda: _entries(table) >= recorded, f"{recorded} ledger entries")
    page_file = folder / "spend.html"
    command = [sys.executable, "-m", "console", "costs", "report", "--last", f"{DAYS}d", str(page_file)]
    subprocess.run(command, check=True, cwd=ROOT)
    page = browser.new_page(viewport=SIZE, device_scale_factor=1.25, color_scheme="light")
    page.goto(page_file.as_uri())
    return page.screenshot()


def _entries(table: Any) -> int:
    """How many requests of the invented clients the ledger has."""
    found, last = 0, {}
    while True:
        answer = table.scan(ProjectionExpression="pk", ConsistentRead=True, **last)
        found += sum(item["pk"].startswith(tuple(f"client#{name}#" for name in CLIENTS)) for item in answer["Items"])
        if "LastEvaluatedKey" not in answer:
            return found
        last = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def _events(random: Random, until: datetime, bus: str) -> Iterator[dict[str, str]]:
    """The events of one day, none of them later than `until`: fewer at the weekend."""
    for _ in range(int(REQUESTS_A_DAY * random.uniform(0.7, 1.3) * (0.35 if until.weekday() > 4 else 1))):
        name = _one_of(random, SAMPLES)
        envelope = json.loads((ROOT / f"events/samples/{name}.json").read_text())
        detail = envelope["detail"]
        data = detail["data"]
        began = until - timedelta(seconds=random.uniform(0, min(3600, until.hour * 3600 + 1)))
        client, (server, model) = _one_of(random, CLIENTS), _one_of(random, MODELS)
        inference = new_ulid(began.timestamp())
        detail["metadata"] |= {"id": inference, "request_id": inference, "client_id": client}
        detail["metadata"]["timestamp"] = rfc3339(began.timestamp())
        data["server"]["name"], data["request"]["model"], data["client"]["name"] = server, model, client
        if name.startswith("InferenceCompleted"):
            _make_different(random, data, model)
        yield {
            "Source": envelope["source"],
            "DetailType": envelope["detail-type"],
            "Detail": json.dumps(detail),
            "EventBusName": bus,
        }


def _make_different(random: Random, data: dict[str, Any], model: str) -> None:
    first = random.lognormvariate(-0.7, 0.35)
    output = int(random.lognormvariate(6.2, 0.6))
    speed = random.uniform(60, 110) if "mini" in model else random.uniform(35, 70)
    data["response"] |= {"model": model, "time_to_first_chunk": round(first, 6), "time_per_output_token": 1 / speed}
    data["usage"]["input_tokens"] = tokens = int(random.lognormvariate(8.2, 0.8))
    data["usage"]["cache_read"]["input_tokens"] = tokens // 2 if random.random() < 0.4 else 0
    data["usage"]["output_tokens"] = output
    data["timings"] |= {"upstream": first + output / speed, "total": first + output / speed + 0.01, "proxy": 0.01}


def _one_of(random: Random, weights: dict[Any, int]) -> Any:
    return random.choices(list(weights), list(weights.values()))[0]


def _save(png: bytes, file: Path) -> None:
    """Keep a picture with few colours: it is a page of text, and the repository keeps every version of it."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, optimize=True)
    size = file.stat().st_size
    assert size < MOST_BYTES, f"{file} has {size} bytes"
    print(f"{file.relative_to(ROOT)}  {picture.width} x {picture.height}, {size // 1000} kB")


if __name__ == "__main__":
    main()
