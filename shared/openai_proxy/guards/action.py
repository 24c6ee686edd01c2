"""`Action`: what a guard does about one client key, or user, and until when; its words, and its event. Pure.

One rule: a guard acts at most once in each stretch of the clock (UTC) that is as long as its act lasts, whatever events
come in it. So the same requests give the same actions, in whatever order they come.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.rules import Act, Doing, Guard, Kind
from openai_proxy.guards.seen import Seen

if TYPE_CHECKING:
    from openai_proxy.events.types import GuardEvent

_LONGEST_SUBJECT = 99
_USUAL_STACK = "openai-proxy"
_WORDS: Mapping[Act, str] = {
    "notify": "nothing else is done",
    "lower": "its limits are lowered to {limits}",
    "cache_only": "it gets answers of the response cache alone",
    "disable": "it is disabled",
}


class Action(NamedTuple):
    """A guard's act. `request` is the one that completed the reason. Moments are Unix seconds."""

    id: str
    guard: str
    kind: Kind
    doing: Doing
    request: Seen
    reason: str

    @property
    def at(self) -> float:
        """The beginning of the act, in Unix seconds."""
        return self.request.at

    @property
    def until(self) -> float:
        """The end of the act, in Unix seconds."""
        return self.at + self.doing.lasts

    @property
    def holds(self) -> bool:
        """Whether the act restricts the key or user; if not, people are only told."""
        return self.doing.act != "notify"


def action_of(guard: Guard, request: Seen, reason: str) -> Action:
    """What a guard does because of a request: the same `id` for every request of the same stretch of the clock."""
    stretch = int(request.at) // guard.doing.lasts
    fact = f"guard\0{guard.name}\0{request.key_id}\0{stretch}"
    return Action(ulid_of_fact(stretch * guard.doing.lasts, fact), guard.name, guard.kind, guard.doing, request, reason)


def done_text(act: Act, limits: Mapping[str, Any]) -> str:
    """What is done, in words."""
    return _WORDS[act].format(limits=", ".join(f"{number} {name}" for name, number in limits.items()))


def subject_of(action: Action, stack: str) -> str:
    """One line, as the subject of a mail: ASCII, no longer than SNS takes."""
    return f"[{stack}] Guard {action.guard}: {action.request.client_id} ({action.doing.act})"[:_LONGEST_SUBJECT]


def undo_command(action: Action, stack: str) -> str:
    """The command that undoes the act; "" where there is nothing to undo."""
    named = "" if stack == _USUAL_STACK else f" --stack-name {stack}"
    return f"openai-proxy guards undo {action.id}{named}" if action.holds else ""


def text_of(action: Action, stack: str, runbooks: str) -> str:
    """The whole message, for somebody who knows nothing of it yet."""
    who = f"The guard {action.guard} of the stack {stack} has acted on client {action.request.client_id}"
    of = f"{who}, {_subject(action.request.key_id)}: {done_text(action.doing.act, action.doing.limits)}"
    parts = [f"{of}, until {minute(action.until)}." if action.holds else f"{of}.", f"Why: {action.reason}."]
    if undo := undo_command(action, stack):
        parts.append(f"If that is wrong, this ends it now, and the guard leaves it alone until then:\n  {undo}")
    parts.append(f"Runbook: {runbooks}/guards.md#what-to-look-at")
    return "\n\n".join(parts)


def event_of(action: Action, stack: str, runbooks: str, form: str) -> "GuardEvent":
    """The GuardActed of an action. `form` is what the webhook of a chat takes."""
    from openai_proxy.throttles.incident import chat_message  # noqa: PLC0415 - where nothing is told, nothing is loaded

    text = text_of(action, stack, runbooks)
    event: GuardEvent = Event(
        "GuardActed",
        action.id,
        rfc3339(action.at),
        action.request.id,
        action.request.client_id,
        {
            "guard": action.guard,
            "rule": action.kind,
            "act": action.doing.act,
            "limits": dict(action.doing.limits),
            "client": {"key_id": action.request.key_id, "name": action.request.client_name},
            "reason": action.reason,
            "since": rfc3339(action.at),
            "until": rfc3339(action.until),
            "undo": undo_command(action, stack),
            "text": text,
            "message": chat_message(text, form),
        },
    )
    return event


def _subject(key_id: str) -> str:
    return f"{'user' if len(key_id) > len('0123456789ab') else 'key'} {key_id}"


def minute(at: float) -> str:
    """A moment as people read it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
