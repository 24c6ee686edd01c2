"""Signing in from the playground of the local stack: the people who may, and a token for the one who is chosen. Not on
AWS.

It has the address of the page, because the page's own policy lets it call no other.
"""

import json

import httpx

from local.http.server import Exchange
from local.http.wire import Headers
from local.issuer.people import CLIENT_ID, PEOPLE

PATH = "/playground/sign-in"
_MOST_BYTES = 1024
_SECONDS = 30.0
_JSON: Headers = [("content-type", "application/json"), ("cache-control", "no-store")]


class SignIn:
    """Answers for `PATH`: GET lists people, POST of a user name gives a token. Without an `issuer` the list is
    empty.
    """

    def __init__(self, issuer: str | None) -> None:
        self._issuer = issuer
        self._http = httpx.AsyncClient(timeout=_SECONDS, trust_env=False) if issuer else None

    async def close(self) -> None:
        """End its connections."""
        if self._http:
            await self._http.aclose()

    async def serve(self, exchange: Exchange) -> bool:
        """Answer a request for `PATH`. Returns whether it was one."""
        request = exchange.request
        if request.target != PATH or request.method not in ("GET", "POST"):
            return False
        if request.method == "GET":
            people = [{"user": each.user_name, "name": each.name, "tier": each.tier} for each in PEOPLE]
            await exchange.respond(200, _JSON, json.dumps(people if self._issuer else []).encode())
            return True
        user = (await exchange.body(_MOST_BYTES)).decode(errors="replace")
        status, body = await self._token(user)
        await exchange.respond(status, _JSON, body)
        return True

    async def _token(self, user: str) -> tuple[int, bytes]:
        if self._http is None:
            return 404, b"{}"
        asked = {"grant_type": "password", "client_id": CLIENT_ID, "username": user, "password": user}
        try:
            answer = await self._http.post(f"{self._issuer}/token", data=asked)
        except httpx.TransportError:
            return 503, b"{}"
        return answer.status_code, answer.content
