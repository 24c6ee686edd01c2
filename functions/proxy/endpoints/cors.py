"""The headers that tell browsers who may read an answer, and not to guess its content type. Both doors send them. Pure.

A function URL's own CORS setting would add its headers to the function's, and browsers refuse doubled ones.
"""

from collections.abc import Mapping

_ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_KEY_HEADERS = "authorization, x-api-key, api-key"
_EXPOSED = "*"
_AS_IT_SAYS = {"x-content-type-options": "nosniff"}
"""A browser must not take JSON that quotes somebody for a page or a script because it looks like one."""


class Cors:
    """`origins` is `*` or a comma-separated list of origins that may read answers in a browser."""

    def __init__(self, origins: str) -> None:
        self._any = origins.strip() == "*"
        self._origins = frozenset(origin.strip() for origin in origins.split(",") if origin.strip())

    def headers(self, origin: str | None) -> dict[str, str]:
        """The headers of every answer, errors included. Client keys are not credentials in the sense of CORS."""
        if self._any:
            readable = {"access-control-allow-origin": "*", "access-control-expose-headers": _EXPOSED}
        elif origin is not None and origin in self._origins:
            readable = {"access-control-allow-origin": origin, "access-control-expose-headers": _EXPOSED}
        else:
            readable = dict[str, str]()
        return readable | _AS_IT_SAYS | ({} if self._any else {"vary": "origin"})

    def preflight(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The answer to a browser's pre-flight. It allows whatever headers the browser announces, since only listed
        ones go upstream.
        """
        allowed = self.headers(headers.get("origin"))
        if "access-control-allow-origin" not in allowed:
            return allowed
        return allowed | {
            "access-control-allow-methods": _ALLOWED_METHODS,
            "access-control-allow-headers": headers.get("access-control-request-headers", _KEY_HEADERS),
            "access-control-max-age": "7200",
        }
