"""What a fault does to one exchange: it stands between a caller and the embedded AWS."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from local.faults.call import AwsCall
from local.faults.rules import Rule
from local.http.server import Exchange, PeerGoneError
from local.http.wire import Headers

Execute = Callable[[], Awaitable[tuple[int, Headers, bytes]]]
"""Executes the call: status, headers and body of its answer."""

_REFUSALS = {
    "throttled": (400, "ThrottlingException", "Rate exceeded"),
    "denied": (400, "AccessDeniedException", "The role may not do this"),
    "invalid": (400, "ValidationException", "One or more parameter values were invalid"),
    "internal": (500, "InternalServerError", "An error occurred on the server"),
    "unavailable": (503, "ServiceUnavailable", "The service is not available"),
}
_REPLACEMENTS: dict[str, tuple[Headers, bytes]] = {
    "empty": ([], b""),
    "object": ([("content-type", "application/x-amz-json-1.0")], b"{}"),
    "html": ([("content-type", "text/html")], b"<!doctype html><title>A proxy in between</title><p>Hello."),
}
_DRIP_SECONDS = 0.25


async def inject(rule: Rule, call: AwsCall, exchange: Exchange, execute: Execute) -> None:
    """Let the call of `exchange` go wrong as `rule` says. A caller that has gone has its connection closed."""
    try:
        await _inject(rule, call, exchange, execute)
    except PeerGoneError:
        exchange.cut()


async def _inject(rule: Rule, call: AwsCall, exchange: Exchange, execute: Execute) -> None:
    if rule.fault in _REFUSALS:
        status, code, message = _REFUSALS[rule.fault]
        await exchange.respond(status, *refusal(call, code, message))
    elif replacement := _REPLACEMENTS.get(rule.fault):
        await execute()
        await exchange.respond(200, *replacement)
    elif rule.fault == "slow":
        await asyncio.sleep(rule.seconds)
        await exchange.respond(*await execute())
    elif rule.fault == "late":
        answer = await execute()
        await asyncio.sleep(rule.seconds)
        await exchange.respond(*answer)
    elif rule.fault == "drip":
        await _drip(exchange, *await execute())
    elif rule.fault == "cut":
        status, headers, body = await execute()
        await exchange.start(status, headers, body[: len(body) // 2])
        exchange.cut()
    else:
        if rule.fault == "silent":
            await asyncio.sleep(rule.seconds)
        if rule.fault == "lost":
            await execute()
        exchange.cut()


def refusal(call: AwsCall, code: str, message: str) -> tuple[Headers, bytes]:
    """Headers and body of an error, in the form of the call's protocol."""
    if call.protocol == "xml":
        xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return [("content-type", "application/xml")], xml.encode()
    fields = {"__type": f"com.amazonaws#{code}", "message": message}
    if call.protocol == "cbor":
        members = b"".join(_cbor_text(name) + _cbor_text(text) for name, text in fields.items())
        return [("content-type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")], b"\xa2" + members
    headers = [("content-type", "application/x-amz-json-1.0"), ("x-amzn-errortype", code)]
    return headers, json.dumps(fields).encode()


def _cbor_text(text: str) -> bytes:
    """A text of fewer than 256 bytes in CBOR (RFC 8949)."""
    encoded = text.encode()
    return bytes([0x78, len(encoded)]) + encoded


async def _drip(exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
    await exchange.start(status, headers)
    for place in range(len(body)):
        await exchange.send(body[place : place + 1])
        await asyncio.sleep(_DRIP_SECONDS)
    await exchange.end()
