"""Takes out of content what must not be kept: secrets, addresses, numbers that lead to people. Pure.

Each is replaced by `[kind:hash]`, an HMAC under a salt of the stack's own: the same value has the same hash, so that it
can be followed through the content, but nobody without the salt can look it up. Its one rule: it takes out too much
rather than too little. Names, streets and facts in free text are not recognised.
"""

import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from openai_proxy.client_keys import PREFIX

from proxy.json_shapes import loads_or_none

_DEEPEST = 64
_TIMES = frozenset({"created", "created_at", "completed_at", "expires_at", "failed_at", "in_progress_at"})
"""Fields of the OpenAI API whose numbers are times, though they look like telephone numbers."""
_MOST_NUMBERS = 32
_EDGE = 128
"""Characters dropped where a text is cut: the cut may go through a secret, and half of one is not recognised."""
_COST_OF_A_VALUE = 8
_SHORTEST_KNOWN = 8
"""Characters of the shortest secret that is known, and of the shortest number that may be one or lead to somebody."""
_SHORTEST = 5
"""Characters of the shortest text that anything below recognises: an address, `a@b.c`."""

_HELD = "\ue000"
_HELD_END = "\ue001"
"""Private characters around the number of what has been taken out, so that no later pattern reads into it."""

_PROVIDERS = (
    *(r"sk-[\w-]{16,}", r"gsk_\w{16,}", r"xai-[\w-]{16,}", r"AIza[\w-]{30,}", r"hf_\w{16,}"),
    *(r"(?:AKIA|ASIA)[A-Z0-9]{16}", r"gh[pousr]_\w{20,}", r"github_pat_\w{20,}", r"glpat-[\w-]{16,}"),
    *(r"xox[abprs]-[\w-]{10,}", r"(?:r8|pplx|tvly|nvapi|fw|csk|dop_v1)[-_][\w-]{20,}", r"[rs]k_(?:live|test)_\w{16,}"),
)
_ASSIGNED = (
    r"(?i:pass(?:word|wd|phrase|code)?|pwd|secret|token|api[_-]?key|access[_-]?key|credentials?)"
    r"(?:[\"'\\]{0,4}\s{0,3}(?:[:=]|is)\s{0,3}[\"'\\]{0,4})(?P<value>[^\s\"'\\,;&<>\ue000]{6,256})"
)
_PATTERNS: Sequence[tuple[str, str]] = (
    ("secret", r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}-----)?"),
    ("client_key", rf"(?i:{PREFIX})[0-9A-Za-z]{{20,}}"),
    ("provider_token", rf"(?<![A-Za-z0-9])(?:{'|'.join(_PROVIDERS)})"),
    ("secret", r"eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"),
    ("secret", r"(?i:bearer|basic)[ \t]{1,4}(?P<value>[\w.~+/=-]{8,})"),
    ("secret", r"(?<=://)[^\s/:@\ue000]{1,256}:[^\s/@\ue000]{1,256}(?=@)"),
    ("secret", _ASSIGNED),
    ("email", r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"),
    ("card", r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])"),
    ("iban", r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"),
    ("phone", r"(?<![\w.-])(?:\+|00)?(?:\(\d{1,5}\)|\d)(?:[ ./()-]{0,2}\d){4,14}(?![\w])"),
    ("secret", r"(?<![\w+/=-])(?=[\w+/=-]*[0-9])(?=[\w+/=-]*[A-Za-z])[\w+/=-]{32,}"),
)
_COMPILED = tuple((kind, re.compile(pattern)) for kind, pattern in _PATTERNS)
_NO_PHONE = re.compile(r"\d+\.\d+$|(?:19|20)\d\d[-./](?:0?[1-9]|1[0-2])[-./](?:0?[1-9]|[12]\d|3[01])")
_BULK = re.compile(r"[A-Za-z0-9+/_=-]{256,}")
_NO_DIGIT = re.compile(r"\D")


class Redactor:
    """Redacts the values of one document, up to `budget` characters. The rest is left out, and `is_cut` is set.

    `known` are secrets whose exact text is known: kind and value.
    """

    def __init__(self, salt: bytes, known: Sequence[tuple[str, str]] = (), budget: int = 256 * 1024) -> None:
        self._salt = salt
        self._known = [(kind, value) for kind, value in known if len(value) >= _SHORTEST_KNOWN]
        self._left = budget
        self.is_cut = False
        self.counts: Counter[str] = Counter()

    def value(self, value: Any, name: str = "", depth: int = 0) -> Any:
        """A JSON value, redacted. `name` is the name of its field."""
        self._left -= _COST_OF_A_VALUE
        if self._left <= 0 or depth > _DEEPEST:
            self.is_cut = True
            return "[left out]"
        if isinstance(value, str):
            return self._document(value, depth) if value[:1] in ("{", "[") else self.text(value)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            return self._number(value, name)
        if isinstance(value, list):
            return self._list(value, name, depth)  # pyright: ignore[reportUnknownArgumentType]
        return {self.text(str(key)): self.value(each, str(key), depth + 1) for key, each in value.items()}

    def text(self, text: str) -> str:
        """A text, redacted."""
        if len(text) > self._left:
            self.is_cut = True
            text = text[: max(0, self._left - _EDGE)]
        self._left -= len(text)
        if len(text) < _SHORTEST:
            return text
        taken: list[str] = []

        def hold(kind: str, value: str) -> str:
            taken.append(self._mark(kind, value))
            return f"{_HELD}{len(taken) - 1}{_HELD_END}"

        text = text.replace(_HELD, "").replace(_HELD_END, "")
        for kind, value in self._known:
            if value in text:
                text = text.replace(value, hold(kind, value))
        text = _BULK.sub(lambda match: hold("data", match[0]), text)
        for kind, pattern in _COMPILED:
            text = pattern.sub(_holding(kind, hold), text)
        return re.sub(f"{_HELD}(\\d+){_HELD_END}", lambda match: taken[int(match[1])], text) if taken else text

    def _document(self, text: str, depth: int) -> str:
        """Redact a text that is JSON itself, such as the arguments of a tool: its escapes would hide secrets."""
        inner = loads_or_none(text.encode(errors="replace"))
        if not isinstance(inner, dict | list):
            return self.text(text)
        return json.dumps(self.value(inner, depth=depth + 1), ensure_ascii=False)

    def _list(self, values: list[Any], name: str, depth: int) -> Any:
        if len(values) > _MOST_NUMBERS and all(isinstance(each, int | float) for each in values):
            return f"[{len(values)} numbers]"
        return [self.value(each, name, depth + 1) for each in values]

    def _number(self, number: float, name: str) -> Any:
        digits = str(number)
        if isinstance(number, float) or name in _TIMES or len(digits) < _SHORTEST_KNOWN:
            return number
        redacted = self.text(digits)
        return number if redacted == digits else redacted

    def _mark(self, kind: str, value: str) -> str:
        self.counts[kind] += 1
        plain = _PLAIN.get(kind, str)(value)
        return f"[{kind}:{hmac.digest(self._salt, plain.encode(errors='replace'), 'sha256').hex()[:16]}]"


def _holding(kind: str, hold: Callable[[str, str], str]) -> Callable[[re.Match[str]], str]:
    """Put a placeholder in place of a match, or of its group `value`; or leave the match as it is."""

    def replacement(match: re.Match[str]) -> str:
        found = match[0]
        if "value" in match.re.groupindex:
            return found[: match.start("value") - match.start()] + hold(kind, match["value"])
        if not _FIT.get(kind, _always)(found):
            return found
        return hold(kind, found)

    return replacement


def _always(_text: str) -> bool:
    return True


def _is_card(text: str) -> bool:
    """Whether the check digit is right: https://en.wikipedia.org/wiki/Luhn_algorithm."""
    digits = [int(digit) for digit in _digits(text)][::-1]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether the check digits are right: ISO 13616, modulo 97."""
    plain = text.replace(" ", "")
    return len(plain) >= 15 and int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    """Whether it has as many digits as a telephone number: E.164 allows 15, without the 00 of international calls."""
    return len(_digits(text)) >= 9 and len(_number(text)) <= 15 and not _NO_PHONE.match(text)


def _number(text: str) -> str:
    """The digits of a telephone number; +49 and 0049 give the same."""
    return _digits(text).removeprefix("00")


def _digits(text: str) -> str:
    return _NO_DIGIT.sub("", text)


_PLAIN: dict[str, Callable[[str], str]] = {"card": _digits, "phone": _number, "email": str.casefold}
"""The form under which all ways to write the same value have one hash."""

_FIT: dict[str, Callable[[str], bool]] = {"card": _is_card, "iban": _is_iban, "phone": _is_phone}
