"""Signs in to a server: with its token in the header that it wants, or with AWS Signature Version 4 by the function's
own role.

Its one rule: these headers are set last, so neither a client nor the servers file can replace them.
"""

import time
from collections.abc import Mapping

from openai_proxy.servers import Server

from proxy.aws.sigv4 import Credentials, sign
from proxy.http.wire import Outgoing

_CLIENTS_OWN = "anthropic-version"
"""Which form of the API a client reads, it knows itself: the file's is for clients that do not say."""


def with_token(server: Server, outgoing: Outgoing, token: str) -> Mapping[str, str]:
    """The headers of `outgoing`, those of the servers file, and the one with the token, where there is a token."""
    headers = _with_those_of_file(server, outgoing)
    if token:
        headers[server.auth.header] = server.auth.prefix + token
    return headers


def signed_by_role(server: Server, outgoing: Outgoing, credentials: Credentials) -> Mapping[str, str]:
    """The headers of `outgoing`, those of the servers file, and the signature of AWS.

    Only parts that nothing on the way changes are signed: host, content type, date, session and body.
    """
    headers = _with_those_of_file(server, outgoing)
    signed = {name: headers[name] for name in ("content-type",) if name in headers}
    auth, to_sign = server.auth, outgoing._replace(headers=signed)
    signature = sign(to_sign, credentials, auth.region, auth.service, time.time())
    signature.pop("host")
    return {**headers, **signature}


def _with_those_of_file(server: Server, outgoing: Outgoing) -> dict[str, str]:
    headers = {**outgoing.headers, **server.headers}
    if _CLIENTS_OWN in outgoing.headers:
        headers[_CLIENTS_OWN] = outgoing.headers[_CLIENTS_OWN]
    return headers
