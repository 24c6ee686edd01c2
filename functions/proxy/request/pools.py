"""Pools: the members that a request goes to, in their order, and the model that each is asked for. Pure.

Its one rule: what identifies the conversation decides, and chance only where nothing does, so that a provider's prompt
cache sees the same conversation again.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

from openai_proxy.servers import Server

from proxy.json_shapes import object_of
from proxy.request.body import RequestBody

_BITS = 53
"""As many as a float has for the digits of a number below 1."""


def conversation_of(body: RequestBody) -> str:
    """What distinguishes the requests of one conversation, or at least of one person, from others; "" where nothing
    does.
    """
    metadata = object_of(body.fields.get("metadata"))
    told = body.fields.get("prompt_cache_key"), body.end_user, metadata.get("user_id")
    return next((each for each in told if each and isinstance(each, str)), "")


def in_turn(weights: Mapping[str, int], seed: str) -> list[str]:
    """The members in the order in which they are asked. Each member comes first for its weight's share of all seeds.

    This is weighted rendezvous hashing: each member draws a number from `seed`, exponentially distributed with its
    weight for a rate, and the lowest is first. A member's number depends on no other member. So if a member is removed,
    only its own seeds move, each to the member that was second; if a weight changes, seeds move only to or from that
    member.
    """
    digest = hashlib.sha256(seed.encode(errors="surrogatepass")).digest()
    return sorted(weights, key=lambda name: -math.log(_drawn(digest, name)) / weights[name])


def _drawn(digest: bytes, name: str) -> float:
    """A number above 0 and below 1, evenly distributed."""
    drawn = int.from_bytes(hashlib.sha256(digest + name.encode()).digest()[:8], "big") >> (64 - _BITS)
    return (drawn + 0.5) / 2.0**_BITS


def model_at(member: Server, name: str, members: Sequence[Server]) -> str:
    """The model that `member` is asked for when the client asks for `name`, or for none; "" for no model.

    If the member has an alias of that name, it is the alias's model. If only other members have the name, this member
    is asked for its default, as a fallback is. If no member has the name, each is asked for the name itself.
    """
    own = member.aliases.get(name, name)
    if not name or (own not in _models(member) and any(name in {*_models(each), *each.aliases} for each in members)):
        return member.model or name
    return own


def _models(server: Server) -> set[str]:
    """The models that a server is set up for."""
    return {server.model, *server.aliases.values()}
