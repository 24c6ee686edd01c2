"""What a guard holds a key to: exactly until its end, and never more than the operator allows."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.guards.overlay import Held, held_by, lowered, overlay_key
from openai_proxy.key_limits import Limits

NOW = 1000.0
NOTHING = Held(is_disabled=False, is_cache_only=False, limits={})


def item(*acts: dict[str, Any]) -> dict[str, Any]:
    return {"key_hash": overlay_key("0123456789ab"), "acts": {str(n): act for n, act in enumerate(acts)}}


def act(kind: str, until: float = NOW + 1, **more: Any) -> dict[str, Any]:
    return {"act": kind, "until": Decimal(repr(until)), **more}


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("disable", NOTHING._replace(is_disabled=True)),
        ("cache_only", NOTHING._replace(is_cache_only=True)),
        ("notify", NOTHING),
    ],
)
def test_an_act_holds_until_its_end_or_its_undoing(kind: str, held: Held) -> None:
    assert held_by(item(act(kind, NOW + 0.001)), NOW) == held
    assert held_by(item(act(kind, NOW)), NOW) == NOTHING
    assert held_by(item(act(kind, undone_at=Decimal(1))), NOW) == NOTHING
    assert held_by(item(), NOW) == NOTHING


def test_of_several_acts_the_strictest_holds() -> None:
    several = item(
        act("lower", limits={"rpm": Decimal(5), "tpm": Decimal(100)}),
        act("lower", limits={"rpm": Decimal(9), "parallel": Decimal(2)}),
        act("lower", NOW, limits={"rpm": Decimal(1)}),
        act("cache_only"),
    )
    assert held_by(several, NOW) == Held(
        is_disabled=False, is_cache_only=True, limits={"rpm": 5, "tpm": 100, "parallel": 2}
    )
    lowers = act("lower", limits={"rpm": Decimal(1)})
    assert held_by(item(act("notify"), act("disable"), act("cache_only"), lowers), NOW) == Held(
        is_disabled=True, is_cache_only=True, limits={"rpm": 1}
    )


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"acts": []},
        {"acts": {"a": "disable"}},
        {"acts": {"a": {"act": "disable"}}},
        {"acts": {"a": {"act": "disable", "until": "soon"}}},
        item(act("lower", limits={"rpm": Decimal(0)})),
        item(act("lower", limits={"rpm": Decimal("1.5")})),
        item(act("lower", limits={"rpm": True})),
        item(act("lower", limits={"budget_day": Decimal(1)})),
        item(act("explode")),
    ],
)
def test_what_is_damaged_is_not_read_in_part(damaged: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"overlay|act|limit|soon"):
        held_by(damaged, NOW)


COUNTS = st.none() | st.integers(1, 50)


@given(COUNTS, COUNTS, st.dictionaries(st.sampled_from(("rpm", "tpm", "parallel")), st.integers(1, 50)))
def test_limits_are_lowered_and_never_raised(rpm: int | None, tpm: int | None, most: dict[str, int]) -> None:
    own = Limits("line", rpm=rpm, tpm=tpm, budget_day=Decimal(3))
    held = lowered(own, most, "line")
    assert held is not None
    for name in ("rpm", "tpm", "parallel"):
        both = [number for number in (getattr(own, name), most.get(name)) if number is not None]
        assert getattr(held, name) == min(both, default=None)
    assert held._replace(rpm=None, tpm=None, parallel=None) == own._replace(rpm=None, tpm=None, parallel=None)


def test_a_key_without_limits_gets_the_lowered_ones_alone() -> None:
    assert lowered(None, {"rpm": 5}, "line") == Limits("line", rpm=5)
    assert lowered(None, {}, "line") is None
