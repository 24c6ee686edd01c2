"""What docs/clients.md says of the clients that were tried is what is written down of them."""

import pytest

from tests.clients.known import CLIENTS, PROBES, Client
from tests.clients.page import BEGIN, DIRECTLY, END, PAGE, Result, Tried, results, row_of, table_of
from tests.clients.trying import WAYS

CLIENT = Client("some", "with_openai_python.py", ["some"])


def test_the_page_is_made_of_what_ran() -> None:
    assert BEGIN + table_of(results()) + END in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_each_client_has_settings_that_fit_a_page(client: Client) -> None:
    lines = client.settings.splitlines()
    assert 1 <= len(lines) <= 4
    assert all(len(line) <= 120 for line in lines)
    assert "OPENAI_BASE_URL" in client.settings
    assert (PROBES / client.probe).exists()


def tries(**told: Tried) -> dict[str, Tried]:
    return {way: Tried("yes", 1) for way in WAYS} | told


def test_a_row_tells_calls_with_the_proxy_and_without() -> None:
    told = tries(tool=Tried("none", 0), **{"500": Tried("yes", 2), f"500{DIRECTLY}": Tried("unfinished", 9)})
    row = row_of(
        CLIENT, Result("1.0", "2026-11-30", "", told | {"429": Tried("no", 3), f"429{DIRECTLY}": Tried("no", 4)})
    )
    asked = "yes, 1 call | yes, 1 call | has none"
    assert row == f"| some | 1.0 | 2026-11-30 | {asked} | shown | 2, directly 9 in 60 s | 3, directly 4 |\n"
    row = row_of(
        CLIENT, Result("1.0", "2026-11-30", "", tries(**{"400": Tried("unfinished", 7), "chat": Tried("no", 2)}))
    )
    assert "| no, 2 calls | yes, 1 call | yes, 1 call | keeps trying |" in row
    assert "| not shown |" in row_of(CLIENT, Result("1.0", "2026-11-30", "", tries(**{"400": Tried("no", 1)})))


def test_what_does_not_run_is_named_with_its_reason() -> None:
    found = {CLIENTS[0].name: Result("", "2026-11-30", "it does not install: no room", {})}
    table = table_of(found)
    assert f"Not run here: {CLIENTS[0].name} (2026-11-30: it does not install: no room), {CLIENTS[1].name}" in table
    assert f"**{CLIENTS[0].name}**" not in table
