"""Tables of text: aligned and cut to any width, but never through a number."""

from hypothesis import given
from hypothesis import strategies as st

from console.tables import Columns, padded, shortened, table, width_of
from console.text import harmless

HEADINGS = ("CLIENT", "MODEL", "REQUESTS", "TOKENS", "COST USD")
texts = st.text(max_size=40).map(harmless)
rows = st.lists(
    st.tuples(texts, texts, *[st.integers(0, 10**9).map(str)] * 3),
    max_size=4,
)


def test_columns_are_aligned():
    text = table(Columns(("A", "N"), numbers=1), [("x", "1"), ("longer", "1,000"), ("TOTAL", "1,001")], total=True)

    assert text.splitlines() == [
        "A           N",
        "-------------",
        "x           1",
        "longer  1,000",
        "-------------",
        "TOTAL   1,001",
    ]


def test_characters_of_two_places_and_of_none_are_aligned_too():
    text = table(Columns(("A", "N"), numbers=1), [("量子", "1"), ("e\N{COMBINING ACUTE ACCENT}", "2"), ("four", "3")])

    assert text.splitlines()[2:] == ["量子  1", "e\N{COMBINING ACUTE ACCENT}     2", "four  3"]


def test_what_a_narrow_terminal_hides_is_named():
    text = table(Columns(("A", "NOTES", "N"), numbers=1, drop=("NOTES",)), [("x", "y" * 12, "1")], width=12, tell=True)

    assert text.splitlines()[0].split() == ["A", "N"]
    assert " ".join(text.split("\n\n")[1].split()).startswith("No room for NOTES: a wider terminal")


def test_what_a_narrow_terminal_shortens_is_named() -> None:
    columns, row = Columns(("ID", "NAME", "NOTES"), drop=("NOTES",), whole=("ID",)), ("0123", "n" * 20, "y" * 20)
    below = {width: table(columns, [row], width=width).partition("\n\n")[2].replace("\n", " ") for width in (20, 40)}
    assert below[40] == "No room for all of NAME and NOTES: a wider terminal, --json or a pipe has it."
    assert below[20] == "No room for NOTES, nor for all of NAME: a wider terminal, --json or a pipe has it."


@given(rows, st.integers(1, 200))
def test_a_table_fits_any_width_that_its_last_columns_fit(rows: list[tuple[str, ...]], width: int):
    drop = ("TOKENS", "REQUESTS", "MODEL")

    lines = table(Columns(HEADINGS, numbers=3, drop=drop), rows, width=width, tell=False).split("\n")

    least = 4 + 2 + max(len(row[-1]) for row in [HEADINGS, *rows])
    assert max(map(width_of, lines)) <= max(width, least + 2)
    assert lines[0].endswith("COST USD")
    for row, line in zip(rows, lines[2:], strict=True):
        assert line.endswith(row[-1])
        assert set(line.split()) >= {row[each] for each in (2, 3) if HEADINGS[each] in lines[0]}


def test_what_is_called_whole_is_not_shortened():
    row = ("2026-11-29 12:09:41", "meta/meta-llama-3-70b-instruct", "1.5 of 2")

    lines = table(Columns(("TIME", "MODEL", "LEFT"), drop=(), whole=("TIME", "LEFT")), [row], width=40).split("\n")

    assert lines[2] == "2026-11-29 12:09:41  meta/met…  1.5 of 2"


@given(rows, st.integers(20, 200), st.integers(20, 200))
def test_a_narrower_table_has_no_column_that_a_wider_one_has_not(rows: list[tuple[str, ...]], one: int, other: int):
    narrow, wide = (
        {each for each in HEADINGS if each in table(Columns(HEADINGS, numbers=3), rows, width=width).split("\n")[0]}
        for width in sorted((one, other))
    )

    assert narrow <= wide


@given(texts, st.integers(1, 50))
def test_what_is_shortened_is_a_beginning_that_fits(text: str, most: int):
    short = shortened(text, most)

    assert width_of(short) <= most
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))
    assert width_of(padded(text, most)) == max(most, width_of(text))


def test_a_column_that_is_kept_gives_way_before_names_can_no_longer_be_read() -> None:
    columns = Columns(("CLIENT", "MODEL", "UNPRICED", "COST"), numbers=2, drop=(), least=24, last=("UNPRICED",))
    rows = [("the-web-shop", "gpt-5.4-mini", "0", "0.000104")]
    assert table(columns, rows, width=40).split("\n")[0].split() == ["CLIENT", "MODEL", "UNPRICED", "COST"]
    narrow = table(columns, rows, width=30)
    assert narrow.split("\n")[0].split() == ["CLIENT", "MODEL", "COST"]
    assert "No room for UNPRICED, " in narrow


def test_rows_that_are_wider_than_the_terminal_say_so() -> None:
    columns, row = Columns(("ID", "NAME"), whole=("ID",)), ("0123456789abcdef", "n")
    assert "No room for NAME" in table(columns, [row], width=17)
    wide = table(columns, [row], width=10).split("\n\n")[1].replace("\n", " ")
    assert wide.endswith("The rows take 16 places all the same.")
    alone = table(Columns(("ID",), whole=("ID",)), [row[:1]], width=10).split("\n\n")[1].replace("\n", " ")
    assert alone == "The rows take 16 places, which is more than the terminal has."
    assert "\n\n" not in table(columns, [row], width=24)
