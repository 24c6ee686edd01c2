"""`events`: gives consumers again what they have not recorded: past events, from the bus's archive, for the ledger
alone; and what waits in a dead-letter queue.

It can do no harm: a consumer ignores an event that it has recorded, and no other consumer gets any.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Any

from botocore.exceptions import ClientError
from openai_proxy.events.ulid import new_ulid

from console.arguments import announced
from console.aws import session
from console.errors import ConsoleError
from console.period import Period, add_period, chosen_period, today
from console.progress import Bars
from console.stack import add_stack_option, chosen_name, stack_name, stack_output
from console.text import to_json

LONGEST_STREAM = timedelta(hours=1)
"""An event is archived when its request has ended, so those of a day end later than it."""

_UNDER_WAY = ("STARTING", "RUNNING")
_UTC_TEXT = "%Y-%m-%dT%H:%M:%SZ"


def add_events(events: argparse.ArgumentParser) -> None:
    """Give `events` its commands."""
    from console.events.dead_letters import add_dead_letters, add_redrive  # noqa: PLC0415 - it needs this module's names

    commands = events.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_dead_letters(commands.add_parser("dead-letters", help="show what a consumer could not record"))
    add_redrive(commands.add_parser("redrive", help="send a consumer's dead letters through again"))
    replay = commands.add_parser("replay", help="give the ledger the events of past days again")
    replay.description = (
        "Publishes the archived events of past days again, for record_cost alone. What the ledger has stays as it is; "
        "what it lost is recorded."
    )
    add_period(replay)
    replay.add_argument("--archive", metavar="ARN", help="default: the stack's")
    add_stack_option(replay)
    replay.add_argument("--no-wait", action="store_true", help="start it, and do not wait until it is done")
    replay.add_argument("--json", action="store_true", help="print JSON, for programs")
    replay.set_defaults(run=_replay)
    announced(replay)


class Replay:
    """Replays of EventBridge. `client` is boto3's."""

    def __init__(self, client: Any, sleep: Callable[[float], None] = time.sleep, bars: Bars | None = None) -> None:
        self._client = client
        self._sleep = sleep
        self._bars = bars or Bars()

    def start(self, name: str, archive: str, rule: str, period: Period) -> None:
        """Start a replay of the events of `period` for one rule. Both are ARNs. Raises ConsoleError."""
        begin, end = _bounds(period)
        try:
            bus = self._client.describe_archive(ArchiveName=archive.rpartition("/")[2])["EventSourceArn"]
            self._client.start_replay(
                ReplayName=name,
                EventSourceArn=archive,
                EventStartTime=begin,
                EventEndTime=end,
                Destination={"Arn": bus, "FilterArns": [rule]},
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in ("ResourceNotFoundException", "ValidationException"):
                raise
            remedy = "name an archive that there is, and days that it may hold"
            raise ConsoleError(
                f"EventBridge refuses the replay: {str(error).rstrip('.')}. Remedy: {remedy}."
            ) from error

    def wait(self, name: str, period: Period) -> None:
        """Wait until a replay is done. Raises ConsoleError when it ends otherwise."""
        begin, end = _bounds(period)
        reached = begin
        with self._bars("replay, seconds of events", int((end - begin).total_seconds())) as advance:
            while (replay := self._client.describe_replay(ReplayName=name))["State"] in _UNDER_WAY:
                latest = min(max(replay.get("EventLastReplayedTime", reached), reached), end)
                advance(int((latest - reached).total_seconds()))
                reached = latest
                self._sleep(1)
        if replay["State"] != "COMPLETED":
            reason = replay.get("StateReason") or "no reason given"
            ended = "was cancelled" if replay["State"] == "CANCELLED" else "failed"
            raise ConsoleError(f"The replay {name} {ended}: {reason}. Remedy: run it again, with fewer days.")


def _bounds(period: Period) -> tuple[datetime, datetime]:
    begin = datetime.combine(period.first, time_of_day(), UTC)
    end = datetime.combine(period.last + timedelta(days=1), time_of_day(), UTC) + LONGEST_STREAM
    return begin, min(end, datetime.now(UTC))


def _replay(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    period = chosen_period(options)
    if period is None:
        raise ConsoleError("No days are named. Remedy: name them with --from and --to, --day, --month or --last.")
    if period.first > today():
        raise ConsoleError(f"{period.first} has not begun (UTC). Remedy: name days up to {today()}.")
    rule = stack_output("RecordCostRule", options, environ)
    archive = options.archive or chosen_name("BusArchive", options, environ)
    if not archive or not rule:
        raise ConsoleError(
            f"The stack '{stack_name(options, environ)}' has no archive of its events. Remedy: deploy it with "
            "EventArchiveDays above 0; from then on events are kept."
        )
    replay, name = Replay(session(environ).client("events")), _name_of(period)
    replay.start(name, archive, rule, period)
    begin, end = (f"{each:{_UTC_TEXT}}" for each in _bounds(period))
    said = [f"Replay {name}: events published from {begin} to {end}."]
    if options.no_wait:
        said.append(f"It runs. `aws events describe-replay --replay-name {name}` says how far it is.")
    if not options.json:
        print("\n".join(said), flush=True)
    if not options.no_wait:
        replay.wait(name, period)
    if options.json:
        print(to_json({"replay": name, "from": begin, "to": end, "done": not options.no_wait}))
    elif not options.no_wait:
        print("All were published again; the ledger has them when its queue is empty.")
    return 0


def _name_of(period: Period) -> str:
    return f"ledger-{period.first}-{period.last}-{new_ulid(time.time())}"  # two may begin in one second
