"""docs/clients.md has what was written down of the clients that were tried, and the settings that they need."""

from tests.clients.page import BEGIN, CLIENTS, END, PAGE, results, settings_of, table_of


def test_the_page_has_what_came_of_each_client() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0] == table_of(results())
    assert set(results()) <= {client.name for client in CLIENTS}


def test_no_client_makes_one_call_into_more_than_an_sdk_alone_would() -> None:
    for name, result in results().items():
        if result.chat:
            assert result.calls[0] == result.calls[1] == 1, name
            assert 1 <= result.calls[2] <= (6 if name == "Vercel AI SDK" else 3), name


def test_each_client_needs_few_lines() -> None:
    for client in CLIENTS:
        assert 1 <= len(settings_of(client).splitlines()) <= 5, client.name
