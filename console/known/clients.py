"""The clients that keys, plans and the ledger know."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from openai_proxy.identity import IdentityFileError, load_identity

from console.costs.reading import Ledger
from console.keys.store import KeyStore
from console.period import last_days
from console.stack import table_at_hand

_LOOKED_BACK = "30d"


def known_clients(client_id: str, options: argparse.Namespace, environ: Mapping[str, str]) -> set[str] | None:
    """All clients of the ledger's last 30 days, of the keys and of the plans; None where one of the three cannot be
    read. What the ledger knows is not looked for among the keys.
    """
    file = Path(environ.get("IDENTITY_FILE") or "identity.yaml")
    if not file.exists():
        return None
    try:
        identity = load_identity(file, allow_loopback=True)
        found = {plan.template.client_id for plan in identity.plans.values()} if identity else set[str]()
        if (ledger := table_at_hand("CostsTable", options, environ)) is None:
            return None
        found |= {str(row["client_id"]) for row in Ledger(ledger).rollups(last_days(_LOOKED_BACK))}
        if client_id not in found:
            if (keys := table_at_hand("KeysTable", options, environ)) is None:
                return None
            found |= {key.client_id for key in KeyStore(keys).all()}
    except (IdentityFileError, BotoCoreError, ClientError):
        return None
    return found - {""}
