"""Names of servers and models as the owner's files have them, and of clients as keys, plans and the ledger have them,
so that a mistyped one is noticed where it is typed.

Its one rule: where the file or the table cannot be asked, every name is taken.
"""

import argparse
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from console.arguments import known

if TYPE_CHECKING:
    from openai_proxy.pricing.price_book import PriceBook
    from openai_proxy.servers import Server

VARIABLE = "DEPLOYED_SERVERS_FILE"
"""The file of the stack that a shell is about; `make run` writes it into .local/env. Without it: this folder's."""


def check_filters(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """For a command that found nothing: was it because a filter names what nobody knows? Raises ConsoleError for a
    client without key, plan and request, and for a server that the file does not list.
    """
    if (client := getattr(options, "client", None)) is not None:
        check_client(client, options, environ)
    if (server := getattr(options, "server", None)) is not None:
        names = Names.at_hand(environ)
        if names.servers is not None:
            known(server, names.servers, "Server", "`openai-proxy servers check` shows all")


def check_client(client_id: str, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Raises ConsoleError for a client that no key and no plan names, and of which the last days have no request."""
    from console.known.clients import known_clients  # noqa: PLC0415 - only a name that finds nothing is looked up

    clients = known_clients(client_id, options, environ)
    if clients is not None:
        remedy = "`openai-proxy keys list` shows who has keys, `openai-proxy costs --last 30d --by client` who asked"
        known(client_id, clients, "Client", remedy)


class Names:
    """What the files know. `servers` is None where there is no file that can be read."""

    def __init__(self, servers: "Mapping[str, Server] | None", book: "PriceBook | None" = None) -> None:
        self._servers = servers
        self._book = book

    @classmethod
    def at_hand(cls, environ: Mapping[str, str]) -> "Names":
        """Those of the stack's servers file and of prices.yaml."""
        from openai_proxy.pricing.price_book import PriceBookError, load_price_book  # noqa: PLC0415 - it loads YAML
        from openai_proxy.servers import ServersFileError, load_servers  # noqa: PLC0415

        file = Path(environ.get(VARIABLE) or "openai_servers.yaml")
        try:
            servers = load_servers(file, environ.get("AWS_REGION") or "us-east-1")
            return cls(servers, load_price_book(Path("prices.yaml"), file))
        except (ServersFileError, PriceBookError):
            return cls(None)

    @property
    def servers(self) -> Collection[str] | None:
        """The servers that the file lists; None where there is no file that can be read."""
        return self._servers

    def check_servers(self, names: Iterable[str]) -> None:
        """Raises ConsoleError for a server that the file does not list."""
        for name in names if self._servers is not None else ():
            known(name, self._servers or (), "Server", "`openai-proxy servers check` shows all", force=True)

    def check_models(self, names: Iterable[str], only: Collection[str] = ()) -> None:
        """Raises ConsoleError for a model that no server is known to have, or none of those in `only`."""
        if self._servers is None:
            return
        of_servers = {each: self._models_of(each) for each in self._servers if not only or each in only}
        for name in names:
            server, slash, model = name.partition("/")
            is_of_one = bool(slash) and server in of_servers
            among = of_servers[server] if is_of_one else set[str]().union(*of_servers.values())
            wanted = model if is_of_one else name
            if wanted.endswith("*") and any(each.startswith(wanted[:-1]) for each in among):
                continue
            if any(self._has_price(each, wanted) for each in ([server] if is_of_one else of_servers)):
                continue
            remedy = "`openai-proxy prices show --server NAME` and the aliases of the servers file have those that are"
            known(wanted, among, "Model", remedy, force=True)

    def _models_of(self, name: str) -> set[str]:
        server = (self._servers or {})[name]
        found = {server.model, *server.aliases, *server.aliases.values()} - {""}
        for member in server.pool:
            found |= self._models_of(member)
        provider = self._book.providers.get(name) if self._book else None
        return found | set(self._book.list.models_of(provider) if self._book and provider else ())

    def _has_price(self, server: str, model: str) -> bool:
        """Whether a rule of the owner's is about this model alone, or about models like it."""
        rules = self._book.rules[server].rules if self._book and server in self._book.rules else ()
        return any(rule.pattern != "*" and rule.matches(model) for rule in rules)
