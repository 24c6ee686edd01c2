"""What the queries of the cookbook must find in entries, computed in Python.

Its one rule: nothing of what is expected comes from SQL, or from the code that prices or writes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]


def groups(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name, "-") for name in names), []).append(row)
    return found


def total(rows: Iterable[Row], name: str) -> Any:
    """A sum as SQL has it: of nothing it is NULL."""
    values = [row[name] for row in rows if name in row]
    return sum(values) if values else None


def counted(rows: Sequence[Row], name: str, value: str) -> int:
    return sum(row.get(name) == value for row in rows)


def _summary(rows: list[Row]) -> Row:
    return {
        "requests": len(rows),
        "failed": counted(rows, "outcome", "failed"),
        "unpriced": counted(rows, "pricing", "unpriced"),
        "input_tokens": total(rows, "input_tokens"),
        "output_tokens": total(rows, "output_tokens"),
        "cost": total(rows, "cost"),
    }


def cost_by_client(rows: list[Row]) -> list[Row]:
    found = [{"client_id": client, **_summary(own)} for (client,), own in groups(rows, "client_id").items()]
    return sorted(found, key=lambda row: (-(row["cost"] or 0), row["client_id"]))


def cost_by_model(rows: list[Row]) -> list[Row]:
    found = [
        {"server": server, "model": model, **_summary(own)}
        | {"cache_read_input_tokens": total(own, "cache_read_input_tokens")}
        for (server, model), own in groups(rows, "server", "model").items()
    ]
    return sorted(found, key=lambda row: (-(row["cost"] or 0), row["server"], row["model"]))


def cost_by_day(rows: list[Row]) -> list[Row]:
    return [
        {"day": day, **_summary(own), "clients": len(groups(own, "client_id"))}
        for (day,), own in sorted(groups(rows, "day").items())
    ]


def cost_by_team(rows: list[Row]) -> list[Row]:
    tagged = [{**row, "team": row.get("tags", {}).get("team", "-")} for row in rows]
    found = [
        {"team": team, **_summary(own), "clients": len(groups(own, "client_id"))}
        for (team,), own in groups(tagged, "team").items()
    ]
    kept = ("team", "requests", "clients", "input_tokens", "output_tokens", "cost")
    ordered = sorted(found, key=lambda row: (-(row["cost"] or 0), row["team"]))
    return [{name: row[name] for name in kept} for row in ordered]


def top_talkers(rows: list[Row]) -> list[Row]:
    all_tokens = total(rows, "input_tokens") + total(rows, "output_tokens")
    found: list[Row] = []
    for (client, key, user), own in groups(rows, "client_id", "key_id", "end_user").items():
        tokens = total(own, "input_tokens") + total(own, "output_tokens")
        who = {"client_id": client, "key_id": key, "end_user": user, "requests": len(own), "tokens": tokens}
        found.append(who | {"percent_of_tokens": round(100 * tokens / all_tokens, 2), "cost": total(own, "cost")})
    return sorted(found, key=lambda row: (-row["tokens"], row["client_id"], row["key_id"], row["end_user"]))[:20]


def _percentile(rows: list[Row], name: str, part: float) -> float | None:
    values = sorted(float(row[name]) for row in rows if name in row)
    return values[math.ceil(part * len(values)) - 1] if values else None


def latency_percentiles(rows: list[Row]) -> list[Row]:
    answered = [row for row in rows if row["outcome"] == "completed" and row["cache_status"] != "HIT"]
    found: list[Row] = []
    for (server, model), own in groups(answered, "server", "model").items():
        row: Row = {"server": server, "model": model, "requests": len(own)}
        for name, column in (("duration", "duration"), ("first_chunk", "time_to_first_chunk")):
            for percent in (50, 95, 99):
                row[f"{name}_p{percent}"] = _percentile(own, column, percent / 100)
        found.append(row | {"proxy_p99": _percentile(own, "proxy_duration", 0.99)})
    return sorted(found, key=lambda row: (-row["requests"], row["server"], row["model"]))


def cache_savings(rows: list[Row]) -> list[Row]:
    found: list[Row] = []
    for (server, model), own in groups(rows, "server", "model").items():
        paid = [row for row in own if row["pricing"] == "priced" and row["cache_status"] != "HIT"]
        hits, cached = counted(own, "cache_status", "HIT"), total(paid, "cache_read_input_tokens")
        if not hits and not cached:
            continue
        row: Row = {"server": server, "model": model, "requests": len(own), "response_cache_hits": hits}
        row |= {"cache_read_input_tokens": cached, "prompt_cache_saved": None}
        row["response_cache_saved"] = total(own, "cost_saved")
        row["hits_without_price"] = hits - sum("cost_saved" in each for each in own)
        row["percent_of_input"] = round(100 * cached / total(paid, "input_tokens"), 2) if paid else None
        if paid:
            written, audio = total(paid, "cache_creation_input_tokens"), total(paid, "input_audio_tokens")
            images = total([each for each in paid if "cost_image_input" in each], "input_image_tokens") or 0
            fresh = total(paid, "input_tokens") - cached - written - audio - images
            for_cache = total(paid, "cost_cached_input") + total(paid, "cost_cache_write")
            row["prompt_cache_saved"] = float(total(paid, "cost_input") / fresh * (cached + written) - for_cache)
        found.append(row)
    return sorted(found, key=lambda row: (-_saved(row), row["server"], row["model"]))


def _saved(row: Row) -> float:
    return (row["prompt_cache_saved"] or 0) + float(row["response_cache_saved"] or 0)


def unpriced(rows: list[Row]) -> list[Row]:
    found: list[Row] = []
    without = [row for row in rows if row["pricing"] == "unpriced"]
    for (reason, server, model), own in groups(without, "unpriced_reason", "server", "model").items():
        days = sorted(row["day"] for row in own)
        what = {"unpriced_reason": reason, "server": server, "model": model, "requests": len(own)}
        what |= {"input_tokens": total(own, "input_tokens"), "output_tokens": total(own, "output_tokens")}
        found.append(what | {"first_day": days[0], "last_day": days[-1]})
    return sorted(found, key=lambda row: (-row["requests"], row["unpriced_reason"], row["server"], row["model"]))


def tokens_by_class(rows: list[Row]) -> list[Row]:
    found: list[Row] = []
    for (server, model), own in sorted(groups(rows, "server", "model").items()):
        cached, written = total(own, "cache_read_input_tokens"), total(own, "cache_creation_input_tokens")
        heard, said = total(own, "input_audio_tokens"), total(own, "output_audio_tokens")
        thought = total(own, "reasoning_output_tokens")
        seen, drawn = total(own, "input_image_tokens") or 0, total(own, "output_image_tokens") or 0
        tokens = {
            "fresh_input_tokens": total(own, "input_tokens") - cached - written - heard - seen,
            "cached_input_tokens": cached,
            "cache_write_tokens": written,
            "audio_input_tokens": heard,
            "cached_audio_input_tokens": 0,
            "image_input_tokens": seen,
            "cached_image_input_tokens": 0,
            "text_output_tokens": total(own, "output_tokens") - thought - said - drawn,
            "reasoning_tokens": thought,
            "audio_output_tokens": said,
            "image_output_tokens": drawn,
        }
        classes = [*("input", "cached_input", "cache_write", "audio_input", "cached_audio_input")]
        classes += ["image_input", "cached_image_input", "output", "reasoning", "audio_output", "image_output"]
        costs = {f"cost_{name}": total(own, f"cost_{name}") for name in classes}
        found.append({"server": server, "model": model} | tokens | costs)
    return found


def failures(rows: list[Row]) -> list[Row]:
    names = ("error_source", "error_type", "status_code", "upstream_status", "server", "model")
    found: list[Row] = []
    for key, own in groups([row for row in rows if row["outcome"] == "failed"], *names).items():
        last = max(row["timestamp"] for row in own).replace("T", " ").replace("Z", "")
        what = {"requests": len(own), "clients": len(groups(own, "client_id")), "last_time": last}
        found.append(dict(zip(names, key, strict=True)) | what | {"cost": total(own, "cost")})
    return sorted(found, key=lambda row: (-row["requests"], *(row[name] for name in names)))


EXPECTED: dict[str, Callable[[list[Row]], list[Row]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(cost_by_client, cost_by_model, cost_by_day, cost_by_team, top_talkers, latency_percentiles),
        *(cache_savings, unpriced, tokens_by_class, failures),
    )
}
"""Named query → what it must find in the entries (without copies; what is priced again at its new price)."""
