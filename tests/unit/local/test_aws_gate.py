import asyncio
import json

import httpx
import pytest

from local.http.server import Exchange, HttpServer
from local.stack.aws_gate import AwsGate, entry_size

INVOKE = "/2015-03-31/functions/authorizer/invocations"


class Ministack:
    """Answers what it was asked; invocations wait for `release`."""

    def __init__(self) -> None:
        self.server = HttpServer(self.handle, lambda fault: ([], fault.encode()))
        self.release = asyncio.Event()
        self.running = 0
        self.most = 0

    async def handle(self, exchange: Exchange) -> None:
        body = await exchange.body(1000)
        if exchange.request.target.startswith("/2015"):
            self.running += 1
            self.most = max(self.most, self.running)
            await self.release.wait()
            self.running -= 1
        said = {
            "method": exchange.request.method,
            "target": exchange.request.target,
            "body": body.decode(),
            "header": exchange.request.header("x-amz-target"),
        }
        await exchange.respond(403, [("x-amz-function-error", "Unhandled")], json.dumps(said).encode())


def test_requests_and_answers_pass_unchanged():
    async def main() -> None:
        ministack = Ministack()
        gate = AwsGate(f"http://127.0.0.1:{await ministack.server.start('127.0.0.1', 0)}", limit=1)
        async with httpx.AsyncClient(base_url=await gate.start("127.0.0.1")) as client:
            answer = await client.post("/a%2Fb?c=d", content=b"{}", headers={"x-amz-target": "AWSEvents.PutEvents"})
        assert answer.status_code == 403
        assert answer.headers["x-amz-function-error"] == "Unhandled"
        assert answer.json() == {
            "method": "POST",
            "target": "/a%2Fb?c=d",
            "body": "{}",
            "header": "AWSEvents.PutEvents",
        }
        await gate.close()
        await ministack.server.close()

    asyncio.run(main())


def test_invocations_wait_for_their_turn_and_other_calls_do_not():
    async def main() -> None:
        ministack = Ministack()
        gate = AwsGate(f"http://127.0.0.1:{await ministack.server.start('127.0.0.1', 0)}", limit=2)
        async with httpx.AsyncClient(base_url=await gate.start("127.0.0.1"), timeout=20) as client:
            invocations = [asyncio.create_task(client.post(INVOKE)) for _ in range(6)]
            async with asyncio.timeout(20):
                while ministack.running < 2:  # noqa: ASYNC110 (what is waited for happens on sockets)
                    await asyncio.sleep(0.01)
            assert (await client.post("/")).status_code == 403
            ministack.release.set()
            answers = await asyncio.gather(*invocations)
        assert [answer.status_code for answer in answers] == [403] * 6
        assert ministack.most == 2
        await gate.close()
        await ministack.server.close()

    asyncio.run(main())


def test_ministack_that_is_gone_is_a_broken_connection():
    async def main() -> None:
        ministack = Ministack()
        gate = AwsGate(f"http://127.0.0.1:{await ministack.server.start('127.0.0.1', 0)}", limit=1)
        await ministack.server.close()
        async with httpx.AsyncClient(base_url=await gate.start("127.0.0.1")) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/")
        await gate.close()

    asyncio.run(main())


def entry(**parts: object) -> dict[str, object]:
    return {"Source": "s", "DetailType": "d", "Detail": "{}", "EventBusName": "b" * 1000, **parts}


@pytest.mark.parametrize(
    ("counted", "size"),
    [
        (entry(), 4),
        (entry(Detail="\u00fc\U0001f600"), 2 + 6),
        (entry(Time=1.5), 4 + 14),
        (entry(Resources=["abc", "de"]), 4 + 5),
        (entry(TraceHeader="x" * 100), 4),
    ],
)
def test_an_entry_is_as_large_as_aws_counts_it(counted: dict[str, object], size: int):
    assert entry_size(counted) == size


LIMIT = 256 * 1024


@pytest.mark.parametrize(
    ("entries", "passes"),
    [
        ([entry(Detail="x" * (LIMIT - 3))], True),
        ([entry(Detail="x" * (LIMIT - 2))], False),
        ([entry(Detail="x" * (LIMIT // 2))] * 2, False),
        ([entry(Detail="\u00fc" * (LIMIT // 2))], False),
        ([entry()] * 10, True),
        ([entry()] * 11, False),
    ],
)
def test_events_that_aws_would_refuse_for_their_size_do_not_pass(entries: list[object], passes: bool):
    async def main() -> None:
        ministack = HttpServer(taken, lambda fault: ([], fault.encode()))
        gate = AwsGate(f"http://127.0.0.1:{await ministack.start('127.0.0.1', 0)}", limit=1)
        async with httpx.AsyncClient(base_url=await gate.start("127.0.0.1")) as client:
            answer = await client.post("/", json={"Entries": entries}, headers={"x-amz-target": "AWSEvents.PutEvents"})
            other = await client.post("/", json={"Entries": entries}, headers={"x-amz-target": "AWSEvents.Other"})
        assert other.status_code == 200
        assert answer.status_code == (200 if passes else 400)
        assert passes or answer.json()["__type"] == "ValidationException"
        await gate.close()
        await ministack.close()

    async def taken(exchange: Exchange) -> None:
        await exchange.body(LIMIT * 10)
        await exchange.respond(200, [], b"{}")

    asyncio.run(main())
