"""All cases, by what they are about."""

from conformance.case import Case
from conformance.cases import errors, faults, gateway, headers, operations, retries, streams, transfers, usage

GROUPS: dict[str, tuple[Case, ...]] = {
    "streams": streams.CASES,
    "usage": usage.CASES,
    "faults": faults.CASES,
    "errors": errors.CASES,
    "headers": headers.CASES,
    "operations": operations.CASES,
    "transfers": transfers.CASES,
    "gateway": gateway.CASES,
    "retries": retries.CASES,
}
CASES: tuple[Case, ...] = tuple(case for group in GROUPS.values() for case in group)
