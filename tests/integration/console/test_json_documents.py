"""Every command that has `--json`, as the command line itself knows them, in accounts (moto) with nothing in them, with
requests that have prices, and with requests that have none: one JSON document, in which money is a decimal text, and
what nobody knows is no 0.
"""

import io
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.guards.overlay import GUARD_PREFIX
from openai_proxy.ledger.entries import entry_of
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import PriceBook, parse_price_book
from openai_proxy.throttles.entries import FewModels, throttle_entry_of
from store_response.cached_response import cached_response_of
from store_response.item import item_of

from console.arguments import Parser
from console.command_line import main, parser
from tests.costs_fake import FakeCostsTable
from tests.fakes import Connection, Received, ScriptedServer, read_event

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "events" / "samples"
RULE = "arn:aws:events:us-east-1:123456789012:rule/default/record-cost"
ISSUER = "https://id.example.com"
IDENTITY = f"issuers: [{{issuer: '{ISSUER}', audience: a, plan: free}}]\nplans: {{free: {{budget_day: 1}}}}\n"
BOOKS = {
    "priced": parse_price_book("servers: {openai: {models: {'*': {input: 1, output: 2}}}}"),
    "unpriced": PriceBook(),
}
ACCOUNTS = ("empty", *BOOKS)
MONEY = re.compile(r"(^|_)(cost|costs|usd|amount|budget|price|saved|saving|savings|spent|reserved)(_|$)")
NO_AMOUNTS = re.compile(r"costs_reported|price_version|price_rule|without_(old|new)_price")
"""Names that look like money, and are texts or counts, or hold counts."""
KNOWN_TO_BE_NONE = {"spent", "reserved", "cost_saved", "saved_before", "saved_after", "cost_after"}
"""What limits count from 0, what the response cache saved of requests that it did not answer, and present prices."""
DECIMAL = re.compile(r"-?\d+(\.\d+)?")
FLAGS = ("--yes", "--once", "--force")
NEEDED: Mapping[str, Sequence[str]] = {
    "keys create": ["--client-id", "shop", "--name", "n", "--budget-day", "5"],
    **{f"keys {name}": ["{key}"] for name in ("show", "usage", "release", "rotate", "revoke")},
    "keys update": ["{key}", "--budget-day", "7"],
    **{f"users {name}": ["ada"] for name in ("show", "usage", "block", "unblock")},
    "teams create": ["{new}", "--budget-day", "5"],
    **{f"teams {name}": ["{team}"] for name in ("show", "usage", "release", "delete")},
    "teams update": ["{team}", "--budget-day", "7"],
    # Its document says nothing of what the page's charts show, and without a request there are none to draw.
    "costs report": ["{folder}/report.html", "--model", "nobody"],
    "costs reconcile": ["--server", "openai"],
    "costs export": ["--output", "{folder}/costs.csv"],
    "costs reprice": ["--last", "7d"],
    "cache erase": ["--client", "shop"],
    "find": ["{id}"],
    "events redrive": ["record-cost"],
    "events replay": ["--last", "7d", "--no-wait"],
    "prices refresh": ["--installed", "--into", "{folder}/list.json"],
    "guards undo": ["01M83T4CM0RHJ0VJ2GG9DD5A6M"],
    "logs": ["proxy"],
}
"""What a command cannot do without. One that is not here needs nothing."""
_AWS: Any = boto3


def leaves(words: tuple[str, ...] = (), of: Parser | None = None) -> Iterator[tuple[tuple[str, ...], Parser]]:
    """Every command that has `--json`, by its words."""
    of = of or parser()
    inner = of.below()
    if of.get_default("run") and any("--json" in each.option_strings for each in of._actions):
        yield words, of
    for name, each in inner.items():
        yield from leaves((*words, name), each)


COMMANDS = dict(leaves())


class Account:
    """Tables, a bucket, a log and a stack that names them."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.id, self._made = name, folder, new_ulid(time.time()), 0
        (folder / "identity.yaml").write_text(IDENTITY)
        self.environ = {
            **{f"{each.upper()}_TABLE": f"{name}-{each}" for each in ("keys", "limits", "costs", "cache")},
            "CACHE_BUCKET": f"{name}-bucket",
            "STACK_NAME": name,
            "IDENTITY_FILE": str(folder / "identity.yaml"),
            "LAKE_WORKGROUP": "primary",
            "LAKE_DATABASE": "lake",
            "AWS_REGION": "us-east-1",
        }
        self.dynamodb = _AWS.client("dynamodb")
        self._make()

    def _make(self) -> None:
        for each, keys in (("keys", ["key_hash"]), ("limits", ["pk"]), ("costs", ["pk", "sk"])):
            kinds = zip(keys, ("HASH", "RANGE"), strict=False)
            self._table(each, dict.fromkeys(keys, "S"), KeySchema=[_key(*pair) for pair in kinds])
        names = {"cache_key": "S", "client_id": "S", "created_at": "N"}
        by_client = [_key("client_id", "HASH"), _key("created_at", "RANGE")]
        index = {"IndexName": "by-client", "KeySchema": by_client, "Projection": {"ProjectionType": "ALL"}}
        self._table("cache", names, KeySchema=[_key("cache_key", "HASH")], GlobalSecondaryIndexes=[index])
        _AWS.client("s3").create_bucket(Bucket=self.environ["CACHE_BUCKET"])
        events = _AWS.client("events")
        archive = events.create_archive(ArchiveName=self.name, EventSourceArn=events.describe_event_bus()["Arn"])
        self.environ["BUS_ARCHIVE"] = archive["ArchiveArn"]
        for queue in ("queue", "dead"):
            _AWS.client("sqs").create_queue(QueueName=f"{self.name}-{queue}")
        _AWS.client("logs").create_log_group(logGroupName=f"/aws/lambda/{self.name}/proxy")

    def _table(self, name: str, attributes: Mapping[str, str], **more: Any) -> None:
        given = [{"AttributeName": each, "AttributeType": type_} for each, type_ in attributes.items()]
        table = self.environ[f"{name.upper()}_TABLE"]
        self.dynamodb.create_table(TableName=table, BillingMode="PAY_PER_REQUEST", AttributeDefinitions=given, **more)

    def fill(self, book: PriceBook) -> None:
        """What the samples tell of requests and throttles, as of now, and a cached answer."""
        now = time.time()
        inferences, throttles = [
            [_event(path, now - place) for place, path in enumerate(sorted(SAMPLES.glob(f"Inference{kind}*.json")))]
            for kind in ("[CF]", "Throttled")
        ]
        inferences = [entry_of(each, book) for each in inferences]
        throttles = [throttle_entry_of(each, FewModels()) for each in throttles]
        # What states its own cost, or costs nothing, has a cost without any price.
        inferences = [each for each in inferences if book.rules or "cost" not in each.attributes]
        ledger: Any = FakeCostsTable()
        assert CostsTable(ledger, "costs", pause=lambda _: None).record([*inferences, *throttles]) == {}
        ledger.put_into(self.dynamodb, self.environ["COSTS_TABLE"])
        self.id = inferences[0].key[1]
        captured = cached_response_of(_event(SAMPLES / "ResponseCaptured.chat.json", now), book)
        self.dynamodb.put_item(TableName=self.environ["CACHE_TABLE"], Item=item_of(captured))
        logs, group = _AWS.client("logs"), f"/aws/lambda/{self.name}/proxy"
        logs.create_log_stream(logGroupName=group, logStreamName="s")
        line = {"timestamp": int(now * 1000), "message": json.dumps({"id": self.id, "message": "inference"})}
        logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[line])
        act = {"act": "disable", "guard": "loop", "at": int(now), "until": int(now) + 3600}
        held = {"key_hash": f"{GUARD_PREFIX}3f2a91c07be4", "client_id": "shop", "acts": {NEEDED["guards undo"][0]: act}}
        self.dynamodb.put_item(TableName=self.environ["KEYS_TABLE"], Item=to_item(held))
        sqs = _AWS.client("sqs")
        for text in ('{"detail": {}}', "no JSON"):
            sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName=f"{self.name}-dead")["QueueUrl"], MessageBody=text)

    def needed(self, words: tuple[str, ...]) -> list[str]:
        """What a command cannot do without; the key and the team that it is about are new ones."""
        texts = NEEDED.get(" ".join(words), ())
        self._made += 1
        subjects = {"id": self.id, "folder": str(self.folder), "new": f"new-{self._made}"}
        if "{team}" in texts:
            subjects["team"] = f"team-{self._made}"
            assert self.run("teams", "create", subjects["team"], "--budget-day", "5")[0] == 0
        if "{key}" in texts:
            asked = ("--client-id", "shop", "--name", "n", "--budget-day", "5", "--json")
            subjects["key"] = json.loads(self.run("keys", "create", *asked)[1])["key_id"]
        return [text.format_map(subjects) for text in texts]

    def run(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(words, self.environ)
        return code, out.getvalue(), err.getvalue()


def _key(name: str, kind: str) -> dict[str, str]:
    return {"AttributeName": name, "KeyType": kind}


def _event(sample: Path, moment: float) -> Any:
    envelope = json.loads(sample.read_text(encoding="utf-8"))
    envelope["detail"]["metadata"] |= {"id": new_ulid(moment), "timestamp": rfc3339(moment)}
    if "expires_at" in envelope["detail"]["data"]:
        envelope["detail"]["data"] |= {"created_at": int(moment), "expires_at": int(moment) + 3600}
    return read_event(envelope)


def _answer(connection: Connection, request: Received) -> None:
    """What moto does not answer, or only with packages that nothing else needs: a stack, saved queries; no quotas."""
    if target := request.headers.get("x-amz-target"):
        answers: dict[str, Any] = {"ListNamedQueries": {"NamedQueryIds": []}, "CreateNamedQuery": {"NamedQueryId": "1"}}
        answer = answers.get(target.rpartition(".")[2])
        status = "200 OK" if answer else "400 Bad Request"
        connection.answer(json.dumps(answer or {"__type": "AccessDeniedException"}).encode(), status)
        return
    name = parse_qs(request.body.decode())["StackName"][0]
    queue = f"https://sqs.us-east-1.amazonaws.com/123456789012/{name}"
    queues = {"RecordCostQueueUrl": f"{queue}-queue", "RecordCostDeadLetterQueueUrl": f"{queue}-dead"}
    output = "".join(
        f"<member><OutputKey>{each}</OutputKey><OutputValue>{value}</OutputValue></member>"
        for each, value in {"KeysTable": f"{name}-keys", "RecordCostRule": RULE, **queues}.items()
    )
    status = "<StackStatus>CREATE_COMPLETE</StackStatus>"
    stack = f"<member><StackName>{name}</StackName>{status}<Outputs>{output}</Outputs></member>"
    found = f"<DescribeStacksResult><Stacks>{stack}</Stacks></DescribeStacksResult>"
    connection.answer(f"<DescribeStacksResponse>{found}</DescribeStacksResponse>".encode(), content_type="text/xml")


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Account]]:
    with pytest.MonkeyPatch.context() as patch, ScriptedServer(_answer) as others, mock_aws():
        for service in ("CLOUDFORMATION", "ATHENA", "SERVICE_QUOTAS"):
            patch.setenv(f"AWS_ENDPOINT_URL_{service}", others.url)
        found = {name: Account(name, tmp_path_factory.mktemp(name)) for name in ACCOUNTS}
        for name, book in BOOKS.items():
            found[name].fill(book)
        yield found


def options_of(words: tuple[str, ...]) -> set[str]:
    return {name for action in COMMANDS[words]._actions for name in action.option_strings}


def cases() -> Iterator[Any]:
    """Every command with `--json`, and the accounts to try it in. One is enough for what changes something or writes a
    file; whether requests have prices matters to those that read the ledger.
    """
    for words, command in COMMANDS.items():
        writes = command.get_default("changes") or any("{folder}" in each for each in NEEDED.get(" ".join(words), ()))
        reads_ledger = options_of(words) & {"--costs-table", "--cache-table"}
        for name in ("priced",) if writes else ACCOUNTS if reads_ledger else ACCOUNTS[:2]:
            yield pytest.param(words, name, id=f"{' '.join(words)}-{name}")


def told(account: Account, words: tuple[str, ...]) -> tuple[int, str, str]:
    """What a command says with `--json`, given what it cannot do without."""
    flags = [flag for flag in FLAGS if flag in options_of(words)]
    return account.run(*words, *account.needed(words), *flags, "--json")


def amounts(document: Any, name: str = "", *, is_money: bool = False) -> Iterator[tuple[str, Any]]:
    """What a document says of money, by its name; in an object that is named like money, everything is, and in one of
    NO_AMOUNTS nothing.
    """
    if isinstance(document, dict):
        items: dict[str, Any] = document  # pyright: ignore[reportUnknownVariableType]
        for each, value in items.items():
            if not NO_AMOUNTS.fullmatch(each):
                yield from amounts(value, each, is_money=is_money or bool(MONEY.search(each)))
    elif isinstance(document, list):
        several: list[Any] = document  # pyright: ignore[reportUnknownVariableType]
        for each in several:
            yield from amounts(each, name, is_money=is_money)
    elif is_money:
        yield name, document


@pytest.mark.parametrize(("words", "name"), list(cases()))
def test_it_is_one_document_with_money_as_text(words: tuple[str, ...], name: str, accounts: dict[str, Account]) -> None:
    code, out, err = told(accounts[name], words)

    if name != "empty":
        assert code in (0, 1), f"NEEDED does not say what it takes: {err}"
    if code == 2 and " ".join(words) != "find":
        assert out == ""
        return
    document = json.loads(out)
    for what, amount in amounts(document):
        assert amount is None or (isinstance(amount, str) and DECIMAL.fullmatch(amount)), f"{what}: {amount!r}"
        if name == "unpriced" and what not in KNOWN_TO_BE_NONE:
            assert amount is None or float(amount), f"{what} is not known, and said to be {amount}"
