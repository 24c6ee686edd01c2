"""`users`: the commands that list users, show what one has used, and block one.

Its one rule: a user is named by what `users list` shows: the id, or the `sub` or pseudonym together with its issuer.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from console.arguments import adding, announced
from console.costs.reading import Ledger
from console.errors import ConsoleError
from console.identity.commands import read_identity
from console.keys.counters import read_counters
from console.keys.text import moment
from console.keys.usage import LABELS, Used
from console.known import check_filters
from console.output import print_lines, say_nothing_found, show, terminal_width
from console.period import add_period, chosen_period, last_days
from console.stack import add_place_option, add_table_options, authorizer_cache_seconds, chosen_table
from console.tables import Columns, table
from console.text import count, harmless, to_json, usd
from console.users.users import LONGEST_REASON, Blocks, Named, Spender, named, spenders

Environment = Mapping[str, str]
_USUAL_DAYS = "30d"
_BY_ID = "an id does not tell; `openai-proxy users list` names who made requests"
_UNKNOWN = f"unknown: no request in {_USUAL_DAYS}. `openai-proxy users list` shows who has made one"
_ATTRIBUTES = ("client_id", "key_id", "end_user", "outcome", "cost", "timestamp")


def add_users(users: argparse.ArgumentParser) -> None:
    """Give `users` its commands."""
    add = adding(users, lambda command: add_table_options(command, "KeysTable"))
    listing = add("list", _list, "list who has signed in and what each has spent, those who spent most first")
    add_period(listing)
    listing.add_argument("--client", metavar="ID", help="only with plans of this client")
    add_place_option(listing, "CostsTable")

    showing = add("show", _show, "show all about a user")
    usage = add("usage", _usage, "show what users have used of their limits now")
    block = add("block", _block, "block a user")
    block.add_argument("--reason", metavar="TEXT", help="shown by `users show`, to nobody else")
    block.add_argument("--force", action="store_true", help="block even one who has made no request yet")
    for output in ("LimitsTable", "CostsTable"):
        add_place_option(block, output)
    unblock = add("unblock", _unblock, "let a blocked user in again")
    for command in (showing, usage, block, unblock):
        command.add_argument("user", metavar="USER", help="the id, or the `sub`, or the pseudonym")
        command.add_argument("--issuer", metavar="URL", help="whose `sub` it is; default: the one of the identity file")
        command.add_argument(
            "--identity-file", type=Path, metavar="FILE", help="default: $IDENTITY_FILE, else identity.yaml"
        )
    announced(block)
    announced(unblock)
    for command in (showing, usage):
        for output in ("LimitsTable", "CostsTable"):
            add_place_option(command, output)


def _list(options: argparse.Namespace, environ: Environment) -> int:
    period = chosen_period(options) or last_days(_USUAL_DAYS)
    blocked = Blocks(chosen_table("KeysTable", options, environ)).all()
    ledger = Ledger(chosen_table("CostsTable", options, environ))
    rollups = [each for each in ledger.rollups(period) if options.client in (None, each["client_id"])]
    found = spenders(ledger.entries(rollups, _ATTRIBUTES))
    if options.client is None:
        known = {each.user_id for each in found}
        others = ((user_id, item) for user_id, item in blocked.items() if user_id not in known)
        found += [Spender(user_id, str(item.get("end_user", "")), "") for user_id, item in others]
    if not found:
        check_filters(options, environ)
    if options.json:
        print(to_json([_as_json(each, each.user_id in blocked) for each in found]))
    elif found:
        show(users_table(found, blocked, terminal_width()))
    if not found:
        of_client = f" with plans of '{harmless(options.client)}'" if options.client else ""
        say_nothing_found(f"No user made a request {period.text}{of_client}.", options)
    return 0


def users_table(found: list[Spender], blocked: Mapping[str, Any], width: int | None) -> str:
    """A line for each user and plan."""
    rows = [
        (
            each.user_id,
            harmless(each.end_user) or "-",
            harmless(each.client_id) or "-",
            "blocked" if each.user_id in blocked else "good",
            count(each.requests),
            count(each.failed),
            usd(each.known_cost),
            count(each.unpriced),
            each.last[:16].replace("T", " ") or "-",
        )
        for each in found
    ]
    columns = Columns(
        ("USER ID", "USER", "CLIENT", "STATE", "REQUESTS", "FAILED", "COST USD", "UNPRICED", "LAST"),
        drop=("LAST", "REQUESTS", "CLIENT", "FAILED", "UNPRICED"),
        whole=("USER ID", "STATE", "COST USD"),
    )
    return table(columns, rows, width=width)


def _as_json(each: Spender, is_blocked: bool) -> dict[str, Any]:
    return {
        "user_id": each.user_id,
        "end_user": each.end_user or None,
        "client_id": each.client_id or None,
        "state": "blocked" if is_blocked else "good",
        "requests": each.requests,
        "failed": each.failed,
        "unpriced": each.unpriced,
        "cost": each.known_cost,
        "last": each.last or None,
    }


def _show(options: argparse.Namespace, environ: Environment) -> int:
    user = _user(options, environ)
    block = Blocks(chosen_table("KeysTable", options, environ)).find(user.id)
    now = time.time()
    used = _used(user, options, environ, now)
    is_known = block is not None or _has_come(user, options, environ)
    if options.json:
        about = {**_plain_block(block, is_known=is_known), **_plain_usage(used)}
        print(to_json({"user_id": user.id, "end_user": user.end_user or None, "issuer": user.issuer or None, **about}))
        return 0
    block = block or {}
    lines = [
        ("User id", user.id),
        ("User", harmless(user.end_user or str(block.get("end_user", "")) or _BY_ID)),
        ("Issuer", harmless(user.issuer or str(block.get("issuer", "")) or "an id does not tell")),
        ("State", f"blocked since {block.get('blocked_at', '-')}" if block else "good" if is_known else _UNKNOWN),
    ]
    if "reason" in block:
        lines.append(("Reason", harmless(str(block["reason"]))))
    print_lines([*lines, *_usage_lines(used), ("At", moment(now))])
    return 0


def _usage(options: argparse.Namespace, environ: Environment) -> int:
    user, now = _user(options, environ), time.time()
    used = _used(user, options, environ, now)
    if options.json:
        print(to_json({"user_id": user.id, **_plain_usage(used)}))
        return 0
    unknown = [] if _has_come(user, options, environ) else [("State", _UNKNOWN)]
    print_lines([("User id", user.id), *unknown, *_usage_lines(used), ("At", moment(now))])
    return 0


def _block(options: argparse.Namespace, environ: Environment) -> int:
    reason: str | None = options.reason
    if reason is not None and not (reason.isprintable() and 0 < len(reason) <= LONGEST_REASON):
        raise ConsoleError(f"That reason cannot be stored. Remedy: give 1 to {LONGEST_REASON} printable characters.")
    user = _user(options, environ)
    blocks = Blocks(chosen_table("KeysTable", options, environ))
    if not options.force and not _has_come(user, options, environ):
        raise ConsoleError(
            f"{_who(user)} has made no request in {_USUAL_DAYS}. "
            "Remedy: `openai-proxy users list` shows who has; to block somebody before the first request, add --force."
        )
    is_new = blocks.add(user, reason, time.time())
    seconds = authorizer_cache_seconds(blocks.table, options, environ)
    if options.json:
        print(to_json({"user_id": user.id, "blocked": True, "new": is_new, "remembered_seconds": seconds}))
    elif is_new:
        how_long = "AuthorizerCacheSeconds (60 s by default)" if seconds is None else f"{seconds} s"
        print(f"Blocked {_who(user)}. For up to {how_long}, a door that remembers the user's token lets it in.")
        print("Requests that run go on.")
        if not user.end_user:
            shown = "as `openai-proxy users list` shows it"
            print(f"That is the user with this id, {shown}: a `sub` of this form needs its --issuer.")
    else:
        print("Nothing to do: already blocked.")
    return 0


def _has_come(user: Named, options: argparse.Namespace, environ: Environment) -> bool:
    """Whether a user has a counter or an entry. Where neither can be looked at, a block is not held up."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    try:
        if read_counters(chosen_table("LimitsTable", options, environ), [user.id]):
            return True
        ledger = Ledger(chosen_table("CostsTable", options, environ))
        entries = ledger.entries(ledger.rollups(last_days(_USUAL_DAYS)), _ATTRIBUTES)
        return any(each.user_id == user.id for each in spenders(entries))
    except (BotoCoreError, ClientError, ConsoleError):
        return True


def _unblock(options: argparse.Namespace, environ: Environment) -> int:
    user = _user(options, environ)
    was = Blocks(chosen_table("KeysTable", options, environ)).remove(user.id)
    if options.json:
        print(to_json({"user_id": user.id, "blocked": False, "new": was}))
    else:
        print(f"{_who(user)} may come in again, at once." if was else f"Nothing to do: {_who(user)} is not blocked.")
    return 0


def _user(options: argparse.Namespace, environ: Environment) -> Named:
    file: Path = options.identity_file or Path(environ.get("IDENTITY_FILE") or "identity.yaml")
    return named(options.user, options.issuer, read_identity(file))


def _who(user: Named) -> str:
    return f"{user.id} ({harmless(user.end_user)} of {user.issuer})" if user.end_user else user.id


def _used(user: Named, options: argparse.Namespace, environ: Environment, now: float) -> Used:
    return Used.of(read_counters(chosen_table("LimitsTable", options, environ), [user.id]).get(user.id, {}), now)


def _plain_block(block: Mapping[str, Any] | None, *, is_known: bool) -> dict[str, Any]:
    about = block or {}
    return {
        "state": "blocked" if block is not None else "good" if is_known else "unknown",
        "blocked_at": about.get("blocked_at"),
        "reason": about.get("reason"),
    }


def _plain_usage(used: Used) -> dict[str, Any]:
    return {"requests": used.requests, "tokens": used.tokens, "parallel": used.running, **used.to_json()}


def _usage_lines(used: Used) -> list[tuple[str, str]]:
    lines = [
        ("Requests/min", count(used.requests)),
        ("Tokens/min", count(used.tokens)),
        ("Parallel", count(used.running)),
    ]
    texts = [
        (LABELS[period], f"{usd(spent)} USD spent, {usd(used.reserved[period])} USD reserved")
        for period, spent in used.spent.items()
    ]
    return [*lines, *texts]
