"""`python -m conformance`: serve faults, list the cases, run them against a deployment."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

from conformance.case import Case
from conformance.cases import CASES, GROUPS
from conformance.runner import Deployment, Result, UnreachableError, as_json, as_table
from conformance.server import FaultServer
from conformance.servers_file import entries

_SIGNS = {"pass": "", "fail": "", "skip": ""}


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exit status: 0 when no case failed, 1 when one did, 2 when none could be run."""
    options = _parser(environ).parse_args(arguments)
    if options.command == "serve":
        return _serve(options.host, options.port)
    if options.command == "servers":
        print(entries(options.url, options.name), end="")
        return 0
    if options.command == "list":
        print("\n".join(f"{case.name:<34}{case.about}" for case in _chosen(options.only)))
        return 0
    if not options.url or not options.key:
        print("Say where and with which client key: --url {public url}/{server} --key … (URL, KEY).", file=sys.stderr)
        return 2
    return _run(options)


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the fault server")
    serve.add_argument("--port", type=int, default=9000)
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other machines (127.0.0.1)")
    servers = commands.add_parser("servers", help="print the entries for openai_servers.yaml")
    servers.add_argument(
        "--url", default="http://127.0.0.1:9000", help="the fault server's address, as the proxy sees it"
    )
    servers.add_argument("--name", default="conformance", help="the first entry's name (conformance)")
    listing = commands.add_parser("list", help="list the cases")
    run = commands.add_parser("run", help="run the cases against a deployment that lists the fault server")
    run.add_argument("--url", default=environ.get("URL"), help="{public url}/{server} (URL)")
    run.add_argument("--key", default=environ.get("KEY"), help="a client key (KEY)")
    run.add_argument("--rest-api", action="store_true", help="the URL is that of the REST API")
    run.add_argument("--json", action="store_true", help="results for programs")
    run.add_argument(
        "--longest", type=float, default=5.0, metavar="SECONDS", help="leave out cases that take longer (5)"
    )
    run.add_argument("--parallel", type=int, default=4, help="requests at a time (4)")
    for command in (listing, run):
        names = ", ".join(GROUPS)
        command.add_argument(
            "--only", action="append", metavar="CASE", help=f"names, as in 'usage-*', or groups: {names}"
        )
    return parser


def _chosen(only: Sequence[str] | None) -> list[Case]:
    if not only:
        return list(CASES)
    named = {case.name for pattern in only for case in CASES if fnmatch(case.name, pattern)}
    grouped = {case.name for name in only for case in GROUPS.get(name, ())}
    return [case for case in CASES if case.name in named | grouped]


def _serve(host: str, port: int) -> int:
    with FaultServer(CASES, host, port) as server:
        print(f"The fault server listens on http://{host}:{server.port}/v1. Entries for openai_servers.yaml:\n")
        print(entries(f"http://{host}:{server.port}"), flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def _run(options: argparse.Namespace) -> int:
    cases = _chosen(options.only)
    if not cases:
        print("No case has such a name: see `python -m conformance list`.", file=sys.stderr)
        return 2
    results: list[Result] = []
    try:
        deployment = Deployment(options.url, options.key, longest=options.longest, rest_api=options.rest_api)
        deployment.look(cases)
        results += deployment.run_all(cases, options.parallel)
    except (UnreachableError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in ("pass", "fail", "skip")}
    print(as_json(results) if options.json else as_table(results))
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), file=sys.stderr)
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
