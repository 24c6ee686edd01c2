"""`cache`: the commands that show what the response cache holds and saves, and that empty it.

Nothing here shows what an answer says. With --json the document is all that is on standard output.
"""

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from openai_proxy.cache.answers import is_namespace

from console.arguments import add_yes, adding, announced, confirm, known
from console.cache.store import Answer, CacheStore
from console.cache.streams import StreamStore
from console.cache.text import (
    BY,
    OF_LEDGER,
    Stats,
    answer_json,
    answers_table,
    many,
    size_text,
    stats_notes,
    stats_table,
    time_text,
)
from console.costs.reading import Ledger
from console.errors import ConsoleError
from console.keys.options import whole
from console.keys.store import KeyStore
from console.known import check_filters
from console.output import say_nothing_found, show, terminal_width
from console.period import Period, add_period, age, chosen_period, last_days
from console.stack import (
    add_place_option,
    add_table_options,
    chosen_bucket,
    chosen_name,
    chosen_table,
    table_at_hand,
    waiting_messages,
)
from console.text import harmless, to_json

Environment = Mapping[str, str]

_CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SCOPES = ("client", "key-pool", "server-pool")
_USUAL_BY = ["client", "server"]
_USUAL_DAYS = "30d"


def add_cache(cache: argparse.ArgumentParser) -> None:
    """Give `cache` its commands."""

    def places(command: argparse.ArgumentParser) -> None:
        add_table_options(command, "CacheTable")
        add_place_option(command, "CacheBucket")

    add = adding(cache, places)
    stats = add("stats", _stats, "sum up what is kept and, from the ledger, what it saved; by default in 30 days")
    stats.add_argument(
        *("--by",),
        type=_dimensions,
        default=_USUAL_BY,
        metavar="NAME",
        help=f"sum up by {', '.join(BY)}; several as in client,model",
    )
    add_period(stats)

    listing = add("list", _list, "list answers, newest first, without their content")
    _add_filters(listing)
    listing.add_argument("--client", metavar="CLIENT_ID", help="only of this client")
    listing.add_argument("--limit", type=whole(1, 100_000), default=20, metavar="N", help="at most; default: 20")

    flush = add("flush", _flush, "delete answers")
    _add_filters(flush)
    flush.add_argument("--older-than", type=age, metavar="AGE", help="only those older than, say, 90min, 12h or 7d")
    flush.add_argument("--dry-run", action="store_true", help="only say how many")

    erase = add("erase", _erase, "delete all answers to a client: those in the cache, pools included, and its streams")
    add_place_option(erase, "StreamsTable")
    erase.add_argument("--client", metavar="CLIENT_ID", help="the client whose answers are deleted")
    erase.add_argument("--force", action="store_true", help="erase even of a client that has no key and no plan")
    for command in (flush, erase):
        add_yes(command)
        announced(command)
    erase.add_argument("--namespace", metavar="NAME", help="only what was asked for with this x-cache-namespace")


def _add_filters(command: argparse.ArgumentParser) -> None:
    command.add_argument("--server", metavar="NAME", help="only of this server")
    scopes = " or ".join(f"{each}:NAME" for each in _SCOPES)
    command.add_argument("--scope", type=_scope, metavar="SCOPE", help=f"only answers that these share: {scopes}")


def _stats(options: argparse.Namespace, environ: Environment) -> int:
    has_hits = OF_LEDGER.keys() >= set(options.by)
    chosen = chosen_period(options)
    if chosen and not has_hits:
        raise ConsoleError(
            f"The period is that of the hits, which are counted by {', '.join(OF_LEDGER)} alone. "
            "Remedy: leave the period out, or sum up by these."
        )
    period = chosen or last_days(_USUAL_DAYS)
    store, now = _store(options, environ), time.time()
    kept = store.answers()
    live = [each for each in kept if each.expires_at > now]
    objects = {each.key: each.size for each in store.objects()}
    rollups = _rollups(options, environ, period) if has_hits else None

    stats = Stats(options.by)
    stats.add_answers(live, objects)
    if rollups is not None:
        stats.add_rollups(rollups)
    orphans = objects.keys() - {each.object for each in kept}
    left = {"answers": len(kept) - len(live), "objects": len(orphans), "bytes": sum(objects[key] for key in orphans)}
    nothing = "The response cache is empty"
    nothing += "." if rollups is None else f", and there was no hit {period.text}."
    if options.json:
        hits_of = None if rollups is None else {"from": str(period.first), "to": str(period.last)}
        print(to_json({"rows": stats.to_json(), "total": stats.total.to_json(), "hits_of": hits_of, "expired": left}))
    if not stats.rows:
        say_nothing_found(nothing, options)
    elif not options.json:
        show(stats_table(stats, terminal_width(), with_hits=rollups is not None))
    if not options.json:
        for note in stats_notes(stats, None if rollups is None else period.text, left):
            print(note)
    return 0


def _list(options: argparse.Namespace, environ: Environment) -> int:
    store, now = _store(options, environ), time.time()
    kept = store.answers() if options.client is None else store.answers_of(_client_id(options.client))
    wanted = [each for each in kept if each.expires_at > now and _is_wanted(each, options)]
    newest = sorted(wanted, key=lambda each: each.event_id, reverse=True)[: options.limit]
    if not newest:
        check_filters(options, environ)
    if options.json:
        print(to_json([answer_json(each) for each in newest]))
    elif newest:
        show(answers_table(newest, now, terminal_width()))
    if not newest:
        say_nothing_found(f"The cache holds no answer{_which(options, 'client', 'server', 'scope')}.", options)
    return 0


def _flush(options: argparse.Namespace, environ: Environment) -> int:
    store, now = _store(options, environ), time.time()
    oldest = float("inf") if options.older_than is None else now - options.older_than
    wanted = [each for each in store.answers() if each.created_at <= oldest and _is_wanted(each, options)]
    everything = options.older_than is None and options.server is None and options.scope is None
    # Without a filter, bodies whose answers are gone are deleted too. One that is being captured now is among them.
    orphans = {each.key for each in store.objects()} - {each.object for each in wanted} if everything else set[str]()
    if not wanted:
        check_filters(options, environ)
    what = f"{many(len(wanted), 'answer')} ({size_text(sum(each.body_size for each in wanted))}{_ages(wanted, now)})"
    what += _which(options, "server", "scope")
    what += f" and {many(len(orphans), 'object')} of answers that are gone" if orphans else ""
    if not options.dry_run and (wanted or orphans):
        confirm(f"This deletes {what}.", options)
        store.delete(wanted)
        store.delete_objects(sorted(orphans))
    if options.json:
        objects = len(orphans) + sum(each.object is not None for each in wanted)
        print(to_json({"deleted": not options.dry_run, "answers": len(wanted), "objects": objects}))
    elif not wanted and not orphans:
        old = "" if options.older_than is None else " so old"
        print(f"Nothing to delete: there are no answers{_which(options, 'server', 'scope')}{old}.")
    else:
        print(f"This would delete {what}." if options.dry_run else f"Deleted {what}.")
    return 0


def _erase(options: argparse.Namespace, environ: Environment) -> int:
    client_id = None if options.client is None else _client_id(options.client)
    namespace = options.namespace
    if client_id is None and namespace is None:
        raise ConsoleError("No answers are named. Remedy: name them with --client, --namespace or both.")
    if namespace is not None and not is_namespace(namespace):
        raise ConsoleError(
            f"'{harmless(namespace)}' is no namespace. Remedy: give 1 to 64 letters, digits, '_', '.' and '-'."
        )
    store = _store(options, environ)
    whose = f" of '{client_id}'" if client_id is not None else ""
    whose += f" in the namespace '{namespace}'" if namespace is not None else ""
    if client_id is not None and not options.force:
        _check_client(client_id, store, options, environ)
    has_streams = client_id is not None and namespace is None
    confirm(f"This deletes every answer{whose} in the cache{', and its streams' if has_streams else ''}.", options)
    answers, objects = store.erase(client_id, namespace)
    streams = _erase_streams(client_id, options, environ) if client_id is not None and namespace is None else None
    if options.json:
        said = {"client_id": client_id, "answers": answers, "objects": objects}
        print(to_json({**said, "streams": streams} if namespace is None else {**said, "namespace": namespace}))
    else:
        print(f"Erased {many(answers, 'answer')}{whose}, and {many(objects, 'object')} on S3.")
        if streams:
            print(f"Erased {many(streams, 'stream')} that could have been read again.")
    for output, remedy in (
        ("StoreResponseQueueUrl", "Remedy: run this again in a minute."),
        ("StoreResponseDeadLetterQueueUrl", "Remedy: look at them, and purge that queue (docs/operations.md)."),
    ):
        if waiting := waiting_messages(output, options, environ):
            print(f"{many(waiting, 'captured answer')} in {output} may belong to it. {remedy}", file=sys.stderr)
    return 0


def _erase_streams(client_id: str, options: argparse.Namespace, environ: Environment) -> int | None:
    """How many streams of a client were erased; None where the stack has no table of them, because it is older."""
    if chosen_name("StreamsTable", options, environ) is None:
        return None
    bucket = chosen_bucket(options, environ)
    return StreamStore(chosen_table("StreamsTable", options, environ), bucket).erase(client_id)


def _store(options: argparse.Namespace, environ: Environment) -> CacheStore:
    return CacheStore(chosen_table("CacheTable", options, environ), chosen_bucket(options, environ))


def _rollups(options: argparse.Namespace, environ: Environment, period: Period) -> list[dict[str, Any]] | None:
    """The ledger's rollups; None when there is no ledger to be found."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - it takes time to load

    try:
        return Ledger(chosen_table("CostsTable", options, environ)).rollups(period)
    except ConsoleError:
        return None
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
            return None
        raise


def _check_client(client_id: str, store: CacheStore, options: argparse.Namespace, environ: Environment) -> None:
    """Raises ConsoleError for a client that has neither an answer nor a key: its name is mistyped."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    if store.answers_of(client_id) or store.objects(client_id):
        return
    try:
        keys = table_at_hand("KeysTable", options, environ)
        clients = {key.client_id for key in KeyStore(keys).all()} if keys else set[str]()
    except (BotoCoreError, ClientError):
        clients = set[str]()
    known(client_id, clients, "Client", "`openai-proxy keys list` shows who has keys", force=True)


def _scope(text: str) -> str:
    kind, colon, name = text.partition(":")
    if kind not in _SCOPES or not colon or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not one of {', '.join(f'{each}:NAME' for each in _SCOPES)}")
    return text


def _is_wanted(answer: Answer, options: argparse.Namespace) -> bool:
    return options.server in (None, answer.server) and options.scope in (None, answer.scope)


def _which(options: argparse.Namespace, *names: str) -> str:
    """The filters of a command in words."""
    given = ((name, getattr(options, name)) for name in names)
    which = ", ".join(f"{name} {harmless(value)}" for name, value in given if value is not None)
    return f" of {which}" if which else ""


def _ages(answers: Sequence[Answer], now: float) -> str:
    return f", the oldest {time_text(now - min(each.created_at for each in answers))} old" if answers else ""


def _client_id(text: str) -> str:
    if not _CLIENT_ID.fullmatch(text):
        raise ConsoleError(
            f"'{harmless(text)}' is no client id. Remedy: give 1 to 64 letters, digits, '_', '.' and '-'."
        )
    return text


def _dimensions(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if wrong := [name for name in names if name not in BY]:
        raise argparse.ArgumentTypeError(f"'{wrong[0]}' is none of {', '.join(BY)}")
    return names
