"""Two access modes beside the authorizer function, both off unless the owner turns them on: no keys at all, to try the
proxy on one machine, and a server's own token as a key for that server alone.

Its one rule: neither mode lets in more than it says. A token is compared in constant time. A token that is written in
the servers file itself, such as "ollama", is no key.
"""

import hmac

from openai_proxy.client_keys import ANONYMOUS_CLIENT, client_of_server
from openai_proxy.credentials import sent_key
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server

from proxy.access.authenticator import Authorizer, cannot_check
from proxy.aws.client import AwsError
from proxy.errors import ClientError
from proxy.request.parse import InferenceRequest, target_of
from proxy.upstream.provider_tokens import ProviderTokens, TokenNotFoundError

ANONYMOUS = ClientKey(ANONYMOUS_CLIENT, name="Authorization is off")
_SHORTEST_TOKEN = 20


class Open:
    """Lets everybody in. This is for one's own machine only: a deployed stack in this mode says so in its outputs."""

    @staticmethod
    def authorize(request: InferenceRequest) -> ClientKey:
        """The same key for everybody."""
        return ANONYMOUS

    @staticmethod
    def forget() -> None:
        """There is nothing to forget."""


class WithProviderTokens:
    """Lets in everybody whom the authorizer lets in, and whoever has the token of the server that the path names."""

    def __init__(self, authorizer: Authorizer, servers: dict[str, Server], tokens: ProviderTokens) -> None:
        self._authorizer = authorizer
        self._servers = servers
        self._tokens = tokens

    def authorize(self, request: InferenceRequest) -> ClientKey:
        """The key that `request` came with. Raises as `Authorizer.authorize`, and where the token cannot be read."""
        if request.gateway_identity is None and (server := self._server_of(request)):
            sent = sent_key(request.headers)
            if sent and self._is_token(sent, server):
                return ClientKey(client_of_server(server.name), servers=(server.name,), name="Provider token")
        return self._authorizer.authorize(request)

    def forget(self) -> None:
        """Forget every answer."""
        self._authorizer.forget()

    def _server_of(self, request: InferenceRequest) -> Server | None:
        try:
            return self._servers.get(target_of(request.path).server or "")
        except ClientError:
            return None

    def _is_token(self, sent: str, server: Server) -> bool:
        if server.token.kind == "literal" or len(sent) < _SHORTEST_TOKEN or sent.startswith("opx-"):
            return False
        try:
            token = self._tokens.find(server)
        except TokenNotFoundError:
            return False
        except AwsError as error:  # the token cannot be read now, so nobody knows whether this is it
            raise cannot_check() from error
        return hmac.compare_digest(sent.encode(errors="replace"), token.encode())
