"""What the fifteen questions of analysts must find in entries, computed in Python from the definition of each.

Its one rule is that of `expected`: nothing comes from SQL, or from the code that prices or writes.
"""

import math
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from statistics import mean, stdev

from tests.lake.expected import Row, counted, groups, total

Rows = list[Row]


def _day(row: Row) -> date:
    return date.fromisoformat(row["day"])


def _latest(rows: Rows) -> date:
    return max(map(_day, rows))


def _percent(part: float, whole: float) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _costs(rows: Rows) -> list[Decimal]:
    return [row["cost"] for row in rows if "cost" in row]


def _is_hit(row: Row) -> bool:
    return row.get("cache_status") == "HIT"


def top_users_week(rows: Rows) -> Rows:
    latest, found = _latest(rows), Rows()
    for (client, user), own in groups(rows, "client_id", "end_user").items():
        now = [row for row in own if _day(row) > latest - timedelta(days=7)]
        before = [row for row in own if latest - timedelta(days=14) < _day(row) <= latest - timedelta(days=7)]
        if now or before:
            cost, cost_before = total(now, "cost"), total(before, "cost")
            who = {"client_id": client, "end_user": user, "requests": len(now), "requests_before": len(before)}
            difference = (cost or Decimal(0)) - (cost_before or Decimal(0))
            found.append(who | {"cost": cost, "cost_before": cost_before, "difference": difference})
    order = sorted(found, key=lambda row: (-(row["cost"] or 0), -row["requests"], row["client_id"], row["end_user"]))
    return order[:20]


def cost_by_team_and_tag(rows: Rows) -> Rows:
    tagged = [{**row, "feature": row.get("tags", {}).get("feature", "-")} for row in rows]
    found: Rows = []
    for (team, feature), own in groups(tagged, "team", "feature").items():
        sums = {name: total(own, name) for name in ("input_tokens", "output_tokens", "cost")}
        who = {"team": team, "feature": feature, "requests": len(own), "clients": len(groups(own, "client_id"))}
        found.append(who | sums)
    return sorted(found, key=lambda row: (-(row["cost"] or 0), row["team"], row["feature"]))


def first_token_by_hour(rows: Rows) -> Rows:
    waited = [
        row for row in rows if row["outcome"] == "completed" and not _is_hit(row) and "time_to_first_chunk" in row
    ]
    by_hour = [{**row, "hour": row["timestamp"][:13].replace("T", " ") + ":00"} for row in waited]
    found: Rows = []
    for (hour, server, model), own in sorted(groups(by_hour, "hour", "server", "model").items()):
        values = sorted(float(row["time_to_first_chunk"]) for row in own)
        ranked = {f"first_chunk_p{n}": values[math.ceil(n / 100 * len(values)) - 1] for n in (50, 95)}
        names = {"hour": hour, "server": server, "model": model, "requests": len(own)}
        found.append(names | ranked | {"first_chunk_max": values[-1]})
    return found


def _per_request(rows: Rows) -> float | None:
    costs = _costs(rows)
    return round(float(sum(costs) / len(costs)), 9) if costs else None


def cost_per_end_user(rows: Rows) -> Rows:
    found: Rows = []
    for (client, user), own in groups([row for row in rows if "end_user" in row], "client_id", "end_user").items():
        days, cost = len(groups(own, "day")), total(own, "cost")
        tokens = total(own, "input_tokens") + total(own, "output_tokens")
        who = {"client_id": client, "end_user": user, "requests": len(own), "days": days, "tokens": tokens}
        per_day = None if cost is None else round(float(cost) / days, 9)
        found.append(who | {"cost": cost, "cost_per_request": _per_request(own), "cost_per_day": per_day})
    return sorted(found, key=lambda row: (-(row["cost"] or 0), row["client_id"], row["end_user"]))[:100]


def cost_per_conversation(rows: Rows) -> Rows:
    tagged = [
        {**row, "conversation": row["tags"]["conversation"]} for row in rows if "conversation" in row.get("tags", {})
    ]
    found: Rows = []
    for (client, conversation), own in groups(tagged, "client_id", "conversation").items():
        days = sorted(row["day"] for row in own)
        who = {"client_id": client, "conversation": conversation, "requests": len(own)}
        who |= {"failed": counted(own, "outcome", "failed"), "first_day": days[0], "last_day": days[-1]}
        sums = {name: total(own, name) for name in ("input_tokens", "output_tokens", "cost")}
        found.append(who | sums | {"cost_per_request": _per_request(own)})
    return sorted(found, key=lambda row: (-(row["cost"] or 0), row["client_id"], row["conversation"]))[:100]


def failures_and_retries(rows: Rows) -> Rows:
    found: Rows = []
    for (server, model), own in groups(rows, "server", "model").items():
        failed = [row for row in own if row["outcome"] == "failed"]
        again = [row for row in own if row.get("attempts", 1) > 1]
        if failed or again:
            row: Row = {"server": server, "model": model, "requests": len(own), "failed": len(failed)}
            row |= {
                "cost_of_failed": total(failed, "cost"),
                "retried": len(again),
                "cost_of_retried": total(again, "cost"),
            }
            row["seconds_of_failed"] = float(sum(each["duration"] for each in failed)) if failed else None
            row["saved_by_retries"] = counted(again, "outcome", "completed")
            found.append(row | {"extra_calls": sum(each["attempts"] - 1 for each in again)})
    key = ("server", "model")
    return sorted(found, key=lambda row: (-(row["cost_of_failed"] or 0), -row["failed"], *(row[name] for name in key)))


def month_forecast(rows: Rows) -> Rows:
    latest, earliest = _latest(rows), min(map(_day, rows))
    since = max(latest.replace(day=1), earliest)
    days = (latest - since).days + 1
    days_left = ((latest.replace(day=1) + timedelta(days=32)).replace(day=1) - latest).days - 1
    of_month = [row for row in rows if (_day(row).year, _day(row).month) == (latest.year, latest.month)]
    found: Rows = []
    for (client,), own in groups(of_month, "client_id").items():
        by_day = {since + timedelta(days=n): Decimal(0) for n in range(days)}
        for row in own:
            by_day[_day(row)] += row.get("cost", 0)
        spent, per_day = sum(by_day.values()), float(mean(by_day.values()))
        band = 1.96 * (float(stdev(by_day.values())) if days > 1 else 0.0) * math.sqrt(days_left)
        row = {"client_id": client, "spent": spent, "days": days, "days_left": days_left, "cost_per_day": per_day}
        row["forecast"] = float(spent) + per_day * days_left
        row["low"] = float(spent) + max(per_day * days_left - band, 0.0)
        found.append(row | {"high": float(spent) + per_day * days_left + band})
    return sorted(found, key=lambda row: (-round(row["forecast"], 6), row["client_id"]))


def outliers(rows: Rows) -> Rows:
    found: Rows = []
    for (client,), own in groups([row for row in rows if "cost" in row], "client_id").items():
        history: list[float] = []
        for (day,), of_day in sorted(groups(own, "day").items()):
            cost = total(of_day, "cost")
            usual = mean(history) if history else 0.0
            if len(history) >= 5 and usual > 0 and float(cost) > usual + 3 * stdev(history):
                row = {
                    "day": day,
                    "client_id": client,
                    "requests": len(of_day),
                    "cost": cost,
                    "usual_cost": round(usual, 9),
                }
                found.append(row | {"times_usual": float(cost) / usual, "days_before": len(history)})
            history.append(float(cost))
    return sorted(found, key=lambda row: (-row["times_usual"], row["day"], row["client_id"]))


def unknown_shares(rows: Rows) -> Rows:
    found: Rows = []
    for (server, model), own in groups(rows, "server", "model").items():
        unpriced, estimated = counted(own, "pricing", "unpriced"), counted(own, "usage_source", "estimated")
        row: Row = {
            "server": server,
            "model": model,
            "requests": len(own),
            "unpriced": unpriced,
            "estimated": estimated,
        }
        row |= {"percent_unpriced": _percent(unpriced, len(own)), "percent_estimated": _percent(estimated, len(own))}
        row["usage_unknown"] = sum(each["usage_source"] in ("missing", "invalid") for each in own)
        of_estimates = [each for each in own if each["usage_source"] == "estimated"]
        found.append(row | {"cost": total(own, "cost"), "cost_estimated": total(of_estimates, "cost")})
    return sorted(found, key=lambda row: (-row["unpriced"], -row["estimated"], row["server"], row["model"]))


def _fresh(row: Row) -> int:
    parts = ("cache_read_input_tokens", "cache_creation_input_tokens", "input_audio_tokens")
    images = row["input_image_tokens"] if "cost_image_input" in row else 0
    return max(row["input_tokens"] - sum(row[name] for name in parts) - images, 0)


def _written(row: Row) -> int:
    images = row["output_image_tokens"] if "cost_image_output" in row else 0
    return row["output_tokens"] - row["reasoning_output_tokens"] - row["output_audio_tokens"] - images


def price_changes(rows: Rows) -> Rows:
    paid = [row for row in rows if row["pricing"] == "priced" and not _is_hit(row)]
    found: Rows = []
    for (server, model, rule), own in groups(paid, "server", "model", "price_rule").items():
        versions: list[tuple[str, str, Rows]] = []
        for (version,), of_version in groups(own, "price_version").items():
            versions.append((min(row["day"] for row in of_version), version, of_version))
        before: tuple[float | None, float | None] = (None, None)
        for since, version, of_version in sorted(versions, key=lambda each: each[:2]):
            fresh, written = sum(map(_fresh, of_version)), sum(map(_written, of_version))
            input_price = float(total(of_version, "cost_input")) / fresh if fresh else None
            output_price = float(total(of_version, "cost_output")) / written if written else None
            pairs = ((input_price, before[0], fresh), (output_price, before[1], written))
            known = [(new - old, tokens) for new, old, tokens in pairs if new is not None and old is not None]
            if any(abs(change) > 1e-12 for change, _ in known):
                row: Row = {"server": server, "model": model, "price_rule": rule, "price_version": version}
                row |= {"since": since, "requests": len(of_version)}
                row |= {"input_before": _per_million(before[0]), "input_after": _per_million(input_price)}
                row |= {"output_before": _per_million(before[1]), "output_after": _per_million(output_price)}
                found.append(row | {"effect": sum(change * tokens for change, tokens in known)})
            before = (input_price, output_price)
    names = ("since", "server", "model", "price_rule", "price_version")
    return sorted(found, key=lambda row: tuple(row[name] for name in names))


def _per_million(price: float | None) -> float | None:
    return None if price is None else price * 1e6


def reasoning_share(rows: Rows) -> Rows:
    found: Rows = []
    for (server, model), own in groups([row for row in rows if not _is_hit(row)], "server", "model").items():
        thought, output = total(own, "reasoning_output_tokens"), total(own, "output_tokens")
        if thought:
            cost, whole = total(own, "cost_reasoning"), total(own, "cost")
            row: Row = {"server": server, "model": model, "requests": len(own), "output_tokens": output}
            row |= {"reasoning_tokens": thought, "percent_of_output": _percent(thought, output), "cost_reasoning": cost}
            found.append(row | {"percent_of_cost": None if cost is None else _percent(float(cost), float(whole))})
    return sorted(found, key=lambda row: (-row["reasoning_tokens"], row["server"], row["model"]))


def prompt_cache_by_client(rows: Rows) -> Rows:
    asked = [row for row in rows if not _is_hit(row) and row["input_tokens"]]
    found: Rows = []
    for (client, server, model), own in groups(asked, "client_id", "server", "model").items():
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        sums = {name: total(own, name) for name in names}
        row: Row = {"client_id": client, "server": server, "model": model, "requests": len(own)}
        row["with_cached_input"] = sum(each["cache_read_input_tokens"] > 0 for each in own)
        share = _percent(sums["cache_read_input_tokens"], sums["input_tokens"])
        found.append(row | sums | {"percent_of_input": share})
    return sorted(found, key=lambda row: (-row["input_tokens"], row["client_id"], row["server"], row["model"]))


def tokens_per_dollar(rows: Rows) -> Rows:
    paid = [row for row in rows if row["pricing"] in ("priced", "reported") and not _is_hit(row)]
    found: Rows = []
    for (server, model), own in groups(paid, "server", "model").items():
        sums = {name: total(own, name) for name in ("input_tokens", "output_tokens", "cost")}
        if sums["cost"]:
            row: Row = {"server": server, "model": model, "requests": len(own), **sums}
            row["tokens_per_dollar"] = (sums["input_tokens"] + sums["output_tokens"]) / float(sums["cost"])
            found.append(row | {"output_tokens_per_dollar": sums["output_tokens"] / float(sums["cost"])})
    return sorted(found, key=lambda row: (-round(row["tokens_per_dollar"], 2), row["server"], row["model"]))


def idle_keys(rows: Rows) -> Rows:
    latest, found = _latest(rows), Rows()
    for (client, key), own in groups([row for row in rows if "key_id" in row], "client_id", "key_id").items():
        last = max(row["day"] for row in own)
        idle = (latest - date.fromisoformat(last)).days
        if idle >= 7:
            name = max((row["client_name"] for row in own if "client_name" in row), default=None)
            row = {"client_id": client, "key_id": key, "client_name": name, "last_day": last, "idle_days": idle}
            found.append(row | {"requests": len(own), "cost": total(own, "cost")})
    return sorted(found, key=lambda row: (-row["idle_days"], row["client_id"], row["key_id"]))


def throttled_demand(rows: Rows, throttled: Sequence[Row]) -> Rows:
    """`throttled` are entries of refused requests, copies among them; each has its `id`."""
    names = ("client_id", "server", "request_model")
    answered = [row for row in rows if row["outcome"] == "completed" and not _is_hit(row)]
    of_model, of_client = groups(answered, *names[1:]), groups(answered, *names)
    found: Rows = []
    for key, own in groups(throttled, *names).items():
        refused, known = len({row["id"] for row in own}), of_client.get(key, [])
        costs = _costs(known) or _costs(of_model.get(key[1:], []))
        one = float(sum(costs)) / len(costs) if costs else None
        row: Row = {
            **dict(zip(names, key, strict=True)),
            "refused": refused,
            "answered": len(known),
            "cost_of_one": one,
        }
        found.append(row | {"refused_cost": None if one is None else refused * one})
    order = ("client_id", "server", "request_model")
    return sorted(found, key=lambda row: (-(row["refused_cost"] or 0), -row["refused"], *(row[name] for name in order)))


QUESTIONS: dict[str, Callable[[Rows], Rows]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(top_users_week, cost_by_team_and_tag, first_token_by_hour, cost_per_end_user, cost_per_conversation),
        *(failures_and_retries, month_forecast, outliers, unknown_shares, price_changes, reasoning_share),
        *(prompt_cache_by_client, tokens_per_dollar, idle_keys),
    )
}
"""Named query → what it must find in the entries; `throttled-demand` is about refused requests too."""
