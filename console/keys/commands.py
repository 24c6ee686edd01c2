"""`keys`: the commands that make, list, show, change, rotate and revoke client keys.

Its one rule: a new key goes to standard output and all that is said about it to standard error, so that it can be
piped.
"""

import argparse
import contextlib
import errno
import os
import sys
import time
from collections.abc import Mapping

from openai_proxy.client_keys import ATTRIBUTES, without_keys

from console.arguments import adding, announced
from console.errors import ConsoleError
from console.keys.keys import Wanted, create_key, others_of_its_line, revoke_client, revoke_key, rotate_key, update_key
from console.keys.options import add_attributes, add_unset, wanted, whole
from console.keys.release import add_release_options, release
from console.keys.store import KeyStore, StoredKey
from console.keys.text import as_json, changes, key_details, keys_table, may_do, moment, whose
from console.keys.usage import add_usage_options, show_usage
from console.known import check_client
from console.output import say_nothing_found, show, terminal_width
from console.stack import add_table_options, authorizer_cache_seconds, chosen_table
from console.teams.teams import TeamStore
from console.text import to_json

Environment = Mapping[str, str]
_HOUR = 3600


def add_keys(keys: argparse.ArgumentParser) -> None:
    """Give `keys` its commands."""
    add = adding(keys)
    create = add("create", _create, "make a client key; it is shown once")
    add_attributes(create, required=True)

    listing = add("list", _list, "list the client keys")
    listing.add_argument("--client-id", metavar="ID", help="only those of this client")

    show = add("show", _show, "show all about a key")

    usage = add("usage", show_usage, "show what keys have used of their limits")
    add_usage_options(usage)

    releasing = add("release", release, "free at once the places and the money that requests of a key hold")
    add_release_options(releasing)

    update = add("update", _update, "change a key; what is not named stays as it is")

    rotate = add("rotate", _rotate, "replace a key by a new one; it is shown once")
    help_of_hours = "how long the old key stays good; default: 24"
    rotate.add_argument("--grace-hours", type=whole(0, 8760), default=24, metavar="N", help=help_of_hours)

    revoke = add("revoke", _revoke, "disable a key, or all keys of a client")
    _add_which(revoke)

    for command in (show, update, rotate):
        command.add_argument("key_id", metavar="KEY_ID", help="as `keys list` shows it")
    add_attributes(update, required=False)
    add_unset(update)
    for command in (create, listing, show, usage, releasing, update, rotate, revoke):
        add_table_options(command, "KeysTable")
    for command in (create, releasing, update, rotate, revoke):
        announced(command)


def _add_which(revoke: argparse.ArgumentParser) -> None:
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("key_id", nargs="?", metavar="KEY_ID", help="as `keys list` shows it")
    which.add_argument("--client-id", metavar="ID", help="revoke all keys of this client")


def _create(options: argparse.Namespace, environ: Environment) -> int:
    store, asked = _store(options, environ), wanted(options)
    _check_names(asked, options, environ)
    _check_team(store, asked)
    key, made = create_key(store, asked, time.time())
    _introduce(made, key, to_json({"key": key, **as_json(made, time.time())}) if options.json else None)
    return 0


def _list(options: argparse.Namespace, environ: Environment) -> int:
    keys = sorted(
        (key for key in _store(options, environ).all() if options.client_id in (None, key.client_id)),
        key=lambda key: (key.client_id, key.created_at, key.key_hash),
    )
    if not keys and options.client_id is not None:
        check_client(options.client_id, options, environ)
    if options.json:
        print(to_json([as_json(key, time.time()) for key in keys]))
    elif keys:
        show(keys_table(keys, time.time(), terminal_width()))
    if not keys:
        of_client = f" of client '{without_keys(options.client_id)}'" if options.client_id else ""
        say_nothing_found(f"There are no client keys{of_client}. `openai-proxy keys create` makes one.", options)
    return 0


def _show(options: argparse.Namespace, environ: Environment) -> int:
    key = _store(options, environ).find(options.key_id)
    now = time.time()
    print(to_json(as_json(key, now)) if options.json else key_details(key, now, terminal_width()))
    return 0


def _update(options: argparse.Namespace, environ: Environment) -> int:
    asked = wanted(options)
    if not (asked.values or asked.tags or asked.cache or asked.unset):
        raise ConsoleError("No change is named. Remedy: see `openai-proxy keys update --help`.")
    store = _store(options, environ)
    before = store.find(options.key_id)
    _check_names(asked, options, environ)
    _check_team(store, asked)
    after = update_key(store, before, asked)
    now = time.time()
    if options.json:
        print(to_json({**as_json(after, now), "before": as_json(before, now)}))
        return 0
    if after is before:
        print(f"Nothing to do: {after.key_id} is already like that.")
        return 0
    print(f"Changed {whose(after)}:")
    for line in changes(before, after):
        print(f"  {line}")
    _say(f"It may now: {may_do(after)}.")
    if (state := after.state(now)) in ("revoked", "expired"):
        _say(f"Note: the key is {state}.")
    if before.state(now) in ("enabled", "rotated"):  # doors remember good keys only
        _say(f"{_doors(store, options, environ)} goes on with it as it was.")
    _mention_others(store, after, "Not changed")
    return 0


def _rotate(options: argparse.Namespace, environ: Environment) -> int:
    store = _store(options, environ)
    now = time.time()
    key, new, old = rotate_key(store, store.find(options.key_id), options.grace_hours * _HOUR, now)
    replaces = f"It replaces {old.key_id}, {_until(old, now)}."
    document = to_json({"key": key, **as_json(new, now), "replaces": as_json(old, now)}) if options.json else None
    _introduce(new, key, document, replaces)
    if options.json:
        return 0
    _say(f"{replaces} They share limits and budgets.")
    if old.state(now) == "expired":
        _say(f"{_doors(store, options, environ)} lets the old one in.")
    return 0


def _revoke(options: argparse.Namespace, environ: Environment) -> int:
    store = _store(options, environ)
    one = None if options.key_id is None else store.find(options.key_id)
    revoked = ([one] if revoke_key(store, one) else []) if one else revoke_client(store, options.client_id)
    if options.json:
        print(to_json([as_json(key, time.time()) for key in _disabled(revoked)]))
        return 0
    for key in _disabled(revoked):
        print(f"Revoked {whose(key)}.")
    if revoked:
        _say(f"{_doors(store, options, environ)} lets it in.")
        _mention_answers(revoked)
    else:
        print("Nothing to do: already revoked.")
    if one:
        _mention_others(store, one, "Still good")
    return 0


def _store(options: argparse.Namespace, environ: Environment) -> KeyStore:
    return KeyStore(chosen_table("KeysTable", options, environ))


def _check_names(asked: Wanted, options: argparse.Namespace, environ: Environment) -> None:
    """A server or a model that is mistyped would let the key use nothing. Raises ConsoleError."""
    servers, models = asked.values.get("servers") or (), asked.values.get("models") or ()
    if (servers or models) and not options.force:
        from console.known import Names  # noqa: PLC0415 - few keys are held to names

        names = Names.at_hand(environ)
        # What cannot be a name is refused where the key is made.
        if ATTRIBUTES["servers"].read(list(servers)) is not None:
            names.check_servers(servers)
        if ATTRIBUTES["models"].read(list(models)) is not None:
            names.check_models(models, servers)


def _check_team(store: KeyStore, asked: Wanted) -> None:
    """Raises ConsoleError for a team that does not exist: its keys would be refused."""
    if name := asked.values.get("team"):
        TeamStore(store.table).find(name)


def _disabled(keys: list[StoredKey]) -> list[StoredKey]:
    return [StoredKey({**key.item, "enabled": False}) for key in keys]


def _introduce(made: StoredKey, key: str, document: str | None, replaces: str = "") -> None:
    """Show a new key before anything else is done, because it can never be shown again: alone, or in a document that
    has it. Raises ConsoleError where it cannot be shown.
    """
    if document is None:
        _say(f"Client key {made.key_id} of '{made.client_id}': {may_do(made)}.")
        _say("It is not stored: copy it now.")
    try:
        if sys.__stdout__ is None:  # the caller has closed it: what is written now goes to nowhere
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        print(document or key, flush=True)
    except OSError as error:
        unseen = f"Client key {made.key_id} is made, but the output cannot be written ({error.strerror})"
        rotate = f"`openai-proxy keys rotate {made.key_id} --grace-hours 0`"
        raise ConsoleError(
            " ".join(filter(None, (f"{unseen}: nobody has seen the key.", replaces)))
            + f" Remedy: `openai-proxy keys revoke {made.key_id}` ends it; {rotate} makes another in its place."
        ) from error


def _until(old: StoredKey, now: float) -> str:
    good = old.state(now) == "rotated"
    return f"which stays good until {moment(old.values['expires_at'])}" if good else "which is not good any more"


def _doors(store: KeyStore, options: argparse.Namespace, environ: Environment) -> str:
    seconds = authorizer_cache_seconds(store.table, options, environ)
    how_long = "AuthorizerCacheSeconds (60 s by default)" if seconds is None else f"{seconds} s"
    return f"For up to {how_long}, a door that remembers the key"


def _mention_others(store: KeyStore, key: StoredKey, what: str) -> None:
    for other in others_of_its_line(store, key, time.time()):
        expires_at = other.values.get("expires_at")
        until = f", good until {moment(expires_at)}" if expires_at else ""
        _say(f"{what}: {other.key_id}, of the same rotation{until}.")


def _mention_answers(revoked: list[StoredKey]) -> None:
    """Say how to delete the answers that the keys have put into the response cache, where it is on for one of them."""
    caching = {key.client_id for key in revoked if (policy := key.values.get("cache")) and policy.mode == "on"}
    for client_id in sorted(caching):
        _say(
            "Answers that it has put into the response cache stay until they expire. To delete them: "
            f"`openai-proxy cache erase --client {client_id}`."
        )


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it, which keeps nobody from the key
        print(text, file=sys.stderr)
