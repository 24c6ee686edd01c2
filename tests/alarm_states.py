"""What state CloudWatch would give the alarms of the template, from their definitions and what was measured.

Its one rule: only what the template uses is understood, all else raises. It follows CloudWatch's user guide: M of N
periods, and how missing data counts. One thing it leaves out: CloudWatch looks further back than N periods when some of
them are empty, which may keep it in a state for a few periods longer.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["OK", "ALARM"]
Points = Mapping[int, float]
"""Begin of a period, in Unix seconds ─▶ value. Periods without data are not there."""


@dataclass(frozen=True)
class Metric:
    """One metric in one statistic. Dimensions are sorted (name, value) pairs; the period is in seconds."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str
    period: int


Read = Callable[[Metric, list[int]], Points]
"""Where measurements come from: the points of a metric in those of the given periods that have data."""


def state(alarm: Mapping[str, Any], read: Read, now: float) -> State:
    """The state of a metric alarm, from the periods that are over at `now` (Unix seconds)."""
    if alarm["ComparisonOperator"] != "GreaterThanThreshold" or alarm["TreatMissingData"] != "notBreaching":
        raise NotImplementedError("teach the evaluation what the template uses now")
    period = period_of(alarm)
    newest = int(now) // period * period - period
    periods = [newest - period * back for back in range(int(alarm["EvaluationPeriods"]))]
    points = _points(alarm, read, periods)
    breaching = sum(points[each] > float(alarm["Threshold"]) for each in periods if each in points)
    return "ALARM" if breaching >= int(alarm["DatapointsToAlarm"]) else "OK"


def metrics_of(alarm: Mapping[str, Any]) -> dict[str, Metric]:
    """Id in the formula, or `value`, ─▶ metric."""
    if "Metrics" not in alarm:
        statistic = alarm.get("Statistic") or alarm["ExtendedStatistic"]
        return {"value": _metric(alarm, statistic, alarm["Period"])}
    return {
        query["Id"]: _metric(query["MetricStat"]["Metric"], query["MetricStat"]["Stat"], query["MetricStat"]["Period"])
        for query in alarm["Metrics"]
        if "MetricStat" in query
    }


def period_of(alarm: Mapping[str, Any]) -> int:
    """Seconds. Raises ValueError when a formula mixes periods: CloudWatch does not allow that."""
    (period,) = {metric.period for metric in metrics_of(alarm).values()}
    return period


def children_of(composite: Mapping[str, Any]) -> list[str]:
    """The names of the alarms, one of which in ALARM is enough. Raises for any other rule."""
    parts = [part.strip() for part in composite["AlarmRule"].split(" OR ")]
    found = [re.fullmatch(r'ALARM\("([^"]+)"\)', part) for part in parts]
    if not all(found):
        raise NotImplementedError(f"teach the evaluation this rule: {composite['AlarmRule']}")
    return [each[1] for each in found if each]


def _metric(parts: Mapping[str, Any], statistic: str, period: Any) -> Metric:
    dimensions = sorted((each["Name"], each["Value"]) for each in parts.get("Dimensions", ()))
    return Metric(parts["Namespace"], parts["MetricName"], tuple(dimensions), statistic, int(period))


def _points(alarm: Mapping[str, Any], read: Read, periods: list[int]) -> Points:
    series = {name: read(metric, periods) for name, metric in metrics_of(alarm).items()}
    if "Metrics" not in alarm:
        return series["value"]
    (expression,) = [query["Expression"] for query in alarm["Metrics"] if query.get("ReturnData")]
    tree = ast.parse(expression, mode="eval").body
    results = {each: _value(tree, {name: points.get(each) for name, points in series.items()}) for each in periods}
    return {each: value for each, value in results.items() if value is not None}


_OPERATORS: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.GtE: lambda left, right: left >= right,
}


def _value(node: ast.expr, values: Mapping[str, float | None]) -> float | None:
    """A formula in one period. A missing operand makes a missing result; SUM leaves it out and FILL fills it."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return values[name]
        case ast.BinOp(left=left, op=sign, right=right) | ast.Compare(left=left, ops=[sign], comparators=[right]):
            return _combined(_OPERATORS[type(sign)], _value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id="IF"), args=[condition, yes, no]):
            holds = _value(condition, values)
            return None if holds is None else _value(yes if holds else no, values)
        case ast.Call(func=ast.Name(id="FILL"), args=[inner, default]):
            value = _value(inner, values)
            return _value(default, values) if value is None else value
        case ast.Call(func=ast.Name(id="SUM"), args=[ast.List(elts=parts)]):
            return _sum(_value(part, values) for part in parts)
        case _:
            raise NotImplementedError(f"teach the evaluation {ast.unparse(node)}")


def _combined(sign: Callable[[float, float], float], left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    try:
        return sign(left, right)
    except ZeroDivisionError:
        return None


def _sum(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) if present else None
