"""When a price hint is written, against a plain model: after so many seconds, or not at all."""

from decimal import Decimal

import pytest
from aws_lambda_powertools import Logger
from hypothesis import given
from hypothesis import strategies as st
from settle_limits.price_hints import PriceHints
from settle_limits.settlement import PriceHint

WAITS = st.sampled_from([0, 59, 60, 61, 599, 600, 601, 86_399, 86_400])
PRICES = st.sampled_from([Decimal(1), Decimal(2)])
ANSWERS = st.sampled_from([None, 1, 2, 3, 100, 150, 151, 10_000])


@given(known=ANSWERS, told=st.lists(st.tuples(WAITS, PRICES, PRICES, ANSWERS), min_size=1, max_size=8))
def test_a_hint_is_written_when_it_is_news_and_the_last_one_is_old_enough(
    known: int | None, told: list[tuple[int, Decimal, Decimal, int | None]]
) -> None:
    now, found = [0.0], list[tuple[float, PriceHint]]()
    hints = PriceHints(
        lambda hint: found.append((now[0], hint)), lambda _: known, Logger(service="test"), lambda: now[0]
    )
    expected, usual = list[tuple[float, PriceHint]](), float(known) if known else None
    for wait, paid, charged, answer in told:
        now[0] += wait
        hints.learn([PriceHint("s", "m", paid, charged, answer)])
        if answer is not None:
            usual = answer if usual is None else usual + (answer - usual) * (0.5 if answer > usual else 0.05)
        hint = PriceHint("s", "m", paid, charged, None if usual is None else max(1, round(usual)))
        if not expected or now[0] - expected[-1][0] >= least(hint, expected[-1][1]):
            expected.append((now[0], hint))
    assert found == expected


def least(hint: PriceHint, before: PriceHint) -> int:
    """Seconds between two hints of one model."""
    if (hint.input, hint.output) != (before.input, before.output):
        return 600
    if hint.answer is None or before.answer is None:
        return 60 if hint.answer != before.answer else 86_400
    return 60 if max(hint.answer, before.answer) * 2 > min(hint.answer, before.answer) * 3 else 86_400


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        ((1, 1, 100), (1, 1, 100), 86_400),
        ((1, 1, None), (1, 1, None), 86_400),
        ((1, 1, 100), (1, 1, 200), 86_400),  # which makes 150 usual
        ((1, 1, 100), (1, 1, 202), 60),  # 151
        ((1, 1, None), (1, 1, 5), 60),
        ((1, 1, 100), (2, 1, 100), 600),
        ((1, 1, 100), (1, 2, 202), 600),
    ],
)
def test_the_second_at_which_a_hint_may_be_written_again(
    before: tuple[int, int, int | None], after: tuple[int, int, int | None], seconds: int
) -> None:
    now, written = [0], list[PriceHint]()
    hints = PriceHints(written.append, lambda _: None, Logger(service="test"), lambda: now[0])
    for now[0], (paid, charged, answer) in ((0, before), (seconds - 1, after), (seconds, after)):
        hints.learn([PriceHint("s", "m", Decimal(paid), Decimal(charged), answer)])
        assert len(written) == (2 if now[0] == seconds else 1)
