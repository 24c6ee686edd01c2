"""What is input and what is output of counts that do not say what they are parts of: every small report there is."""

import itertools
from collections.abc import Iterator

import pytest
from proxy.metering.usage_sums import Report, placed


def reports(total: int | None = None, *, is_anthropic: bool = False) -> Iterator[Report]:
    """All in which no count is above 3, or above 2 where it has fewer neighbours."""
    for prompt, cached, written in itertools.product(range(4), repeat=3):
        for completion, audio, reasoning in itertools.product(range(3), repeat=3):
            yield Report(prompt, completion, total, cached, written, audio, reasoning, is_anthropic)


def least(report: Report) -> tuple[int, int]:
    """What input and output are at least: a part that is more than its whole is beside it, caches of which each would
    fit and both do not are both beside.
    """
    parts = [part for part in (report.cached, report.written) if part > report.prompt]
    if not parts and report.cached + report.written > report.prompt:
        parts = [report.cached, report.written]
    parts += [report.audio] if report.audio > report.prompt else []
    thoughts = report.reasoning if report.reasoning > report.completion else 0
    return report.prompt + sum(parts), report.completion + thoughts


@pytest.mark.parametrize("is_anthropic", [True, False])
def test_without_a_total_a_part_is_in_what_it_is_a_part_of_if_it_fits_there(is_anthropic: bool) -> None:
    for report in reports(is_anthropic=is_anthropic):
        assert placed(report, has_own_names=False) == (*least(report), report.reasoning), report


def test_caches_under_names_of_their_own_are_beside_the_input() -> None:
    for report in reports(is_anthropic=True):
        caches = report.cached + report.written
        beside = report.audio if report.audio > report.prompt else 0
        found = placed(report, has_own_names=True)
        assert found == (report.prompt + caches + beside, least(report)[1], report.reasoning), report


@pytest.mark.parametrize("is_anthropic", [True, False])
@pytest.mark.parametrize("total", [4, 9])
def test_a_total_that_is_large_enough_is_what_input_and_output_are_together(total: int, is_anthropic: bool) -> None:
    for report in reports(total, is_anthropic=is_anthropic):
        found = placed(report, has_own_names=False)
        input_tokens, output_tokens, reasoning = found
        if sum(least(report)) > total:
            assert found[:2] == least(report), report
        else:
            assert input_tokens + output_tokens == total, report
        assert input_tokens >= least(report)[0], report
        assert output_tokens >= least(report)[1], report
        assert report.reasoning <= reasoning <= output_tokens, report
        assert max(report.cached + report.written, report.audio) <= input_tokens, report


@pytest.mark.parametrize("is_anthropic", [True, False])
def test_what_no_part_explains_of_a_total_is_input_where_sound_is_beside_it_or_nothing_else_is_told(
    is_anthropic: bool,
) -> None:
    total = 40  # more than all parts together
    for report in reports(total, is_anthropic=is_anthropic):
        read, said = least(report)
        rest = total - read - said
        if report.audio > report.prompt or not (read or said):
            expected = read + rest, said, report.reasoning
        else:
            expected = read, said + rest, max(report.reasoning, rest) if report.completion else report.reasoning
        assert placed(report, has_own_names=False) == expected, report


@pytest.mark.parametrize("is_anthropic", [True, False])
def test_of_the_ways_to_a_total_the_likeliest_is_taken(is_anthropic: bool) -> None:
    for report in reports(is_anthropic=is_anthropic):
        if least(report) != (report.prompt, report.completion):
            continue
        caches = [(report.cached + report.written, thoughts) for thoughts in (0, report.reasoning)]
        others = [(0, report.reasoning), (report.audio, 0), (report.audio, report.reasoning)]
        ways = [(0, 0), *caches, *others] if is_anthropic else [(0, 0), *others, *caches]
        for beside in ways:
            read, said = next(way for way in ways if sum(way) == sum(beside))
            total = report.prompt + report.completion + sum(beside)
            expected = report.prompt + read, report.completion + said, report.reasoning
            if total:
                assert placed(report._replace(total=total), has_own_names=False) == expected, (report, total)
