"""A page of tiles, charts and tables as one HTML file. Nothing here knows what the figures mean.

One rule: every text is escaped where it is put in; names of models and clients are what others made them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from console.report.plot import Draw, svg
from console.text import harmless

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1f2430; --soft: #596072; --grid: #d9dce3;
  --shade: #0002;
  --series-1: #2f6fd0; --series-2: #e07b39; --series-3: #3a9d6e; --series-4: #b0508e; --series-5: #c9a227;
  --series-6: #4fa3b8; --series-7: #8a6bd1; --series-8: #8c8f96; }
@media (prefers-color-scheme: dark) { :root { --page: #14161b; --card: #1d2027; --text: #e8eaf0; --soft: #a3aabb;
  --grid: #3a3f4c; --shade: #0008; --series-1: #6ea2f2; --series-2: #f09a5f; --series-3: #5fc091; --series-4: #d57fb8;
  --series-5: #dfc052; --series-6: #77c3d6; --series-7: #ad94ea; --series-8: #a2a6b0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 0 0 6px; }
p { margin: 0 0 12px; color: var(--soft); max-width: 75ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(155px, 1fr)); gap: 12px; margin: 20px 0;
  padding: 0; list-style: none; }
.tiles li, section, .notes { background: var(--card); border: 1px solid var(--grid); border-radius: 10px; }
.tiles li { padding: 12px 16px; } .tiles b { display: block; font-size: 24px; font-weight: 650; }
.tiles span, .tiles small { color: var(--soft); font-size: 13px; } .tiles small { display: block; min-height: 1.4em; }
.notes { border-left: 4px solid var(--series-2); padding: 10px 16px; margin: 0 0 16px; list-style: none; }
section .notes { color: var(--text); margin: 0 0 12px; max-width: none; }
section { padding: 18px 20px; margin: 0 0 16px; }
.pair { display: grid; grid-template-columns: minmax(0, 1.5fr) minmax(0, 1fr); gap: 24px; align-items: start; }
.wide .pair, .pair.alone { grid-template-columns: minmax(0, 1fr); }
.wide figure { max-width: 760px; }
figure { margin: 0; } figure svg { display: block; width: 100%; height: auto; } .phone { display: none; }
.table { overflow: auto; max-height: 420px; background:
    linear-gradient(to left, var(--card) 40%, transparent) 100% 0 / 30px 100% no-repeat local,
    linear-gradient(to top, var(--card) 40%, transparent) 0 100% / 100% 30px no-repeat local,
    linear-gradient(to left, var(--shade), transparent) 100% 0 / 10px 100% no-repeat scroll,
    linear-gradient(to top, var(--shade), transparent) 0 100% / 100% 10px no-repeat scroll; }
.table:focus-visible { outline: 2px solid var(--series-1); }
.wide .table, .alone .table { max-height: none; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: 0 8px 6px 0; }
caption.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: 5px 8px; border-bottom: 1px solid var(--grid); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; font-weight: 400; white-space: normal; overflow-wrap: anywhere; min-width: 9em; }
thead th, thead th:first-child { font-weight: 650; position: sticky; top: 0; background: var(--card);
  white-space: normal; vertical-align: bottom; }
footer { color: var(--soft); font-size: 13px; }
@media screen and (max-width: 800px) { .pair { grid-template-columns: minmax(0, 1fr); } main { padding: 16px 12px; } }
@media screen and (max-width: 560px) { .screen { display: none; } .phone { display: block; } section { padding: 14px; }
  h1 { font-size: 21px; } .tiles { gap: 8px; } .tiles li { padding: 8px 12px; }
  th, td { padding: 5px 4px; } th:first-child { min-width: 6.5em; } caption { white-space: normal; }
  .wide th:first-child { position: sticky; left: 0; background: var(--card); }
  .wide thead th:first-child { z-index: 1; } }
@media print { :root { color-scheme: light; --page: #fff; --card: #fff; --text: #1f2430; --soft: #444b5a;
  --grid: #d9dce3;
  --series-1: #2f6fd0; --series-2: #e07b39; --series-3: #3a9d6e; --series-4: #b0508e; --series-5: #c9a227;
  --series-6: #4fa3b8; --series-7: #8a6bd1; --series-8: #8c8f96; }
  @page { margin: 14mm; } body { font-size: 12px; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { padding: 0; max-width: none; } section, .tiles { break-inside: avoid; }
  .table { max-height: none; overflow: visible; background: none; }
  section:has(tr:nth-child(24)) { break-inside: auto; } tr { break-inside: avoid; }
  thead th { position: static; }
  .tiles { grid-template-columns: repeat(3, 1fr); } .pair { gap: 14px; } table { font-size: 10.5px; }
  .pair { grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); } th, td { padding: 2px 4px; }
  th:first-child { min-width: 8em; } .wide figure { max-width: 560px; }
  section:not(.wide) .screen { display: none; } section:not(.wide) .phone { display: block; } }
"""


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that matters, and a little about it."""

    name: str
    figure: str
    note: str


@dataclass(frozen=True, slots=True)
class Chart:
    """How it is drawn, and what it shows, for those who do not see it."""

    draw: Draw
    shows: str
    on_phone: Draw | None = None
    """How it is drawn where there is little room, if not in the same way."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows whose first cell names them; the others are figures."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A chart and its table, one below the other if `wide`. `missing` says what is not there, and why."""

    title: str
    text: str
    chart: Chart | None
    table: Table
    wide: bool = False
    missing: str = ""


def page(
    title: str, subtitle: str, tiles: Sequence[Tile], notes: Sequence[str], sections: Sequence[Section], footer: str
) -> str:
    """The HTML. It has neither scripts nor links to anything."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
        f"<header><h1>{_text(title)}</h1><p>{_text(subtitle)}</p></header>",
        '<ul class="tiles">',
        *(
            f"<li><span>{_text(t.name)}</span><b>{_text(t.figure)}</b><small>{_text(t.note)}</small></li>"
            for t in tiles
        ),
        "</ul>",
    ]
    if notes:
        parts.append('<ul class="notes">' + "".join(f"<li>{_text(note)}</li>" for note in notes) + "</ul>")
    parts += [_section(number, section) for number, section in enumerate(sections)]
    parts.append(f"<footer>{_text(footer)}</footer>\n</main>\n</body>\n</html>\n")
    return "\n".join(parts)


def _section(number: int, section: Section) -> str:
    said = f"<p>{_text(section.text)}</p>" if section.text else ""
    said += f'<p class="notes">{_text(section.missing)}</p>' if section.missing else ""
    figure = ""
    if section.chart:
        label = _text(f"{section.chart.shows}. The table has the figures.")
        figure = f'<figure role="img" aria-label="{label}">{_drawings(section.chart, number)}</figure>'
    nothing = "" if section.missing else "<p>Nothing.</p>"
    parts = [figure, _table(section.table, section.title) if section.table.rows else nothing]
    pair = "pair" if section.chart else "pair alone"
    kind = ' class="wide"' if section.wide else ""
    heading = f'<h2 id="h{number}">{_text(section.title)}</h2>'
    body = f'<div class="{pair}">{"".join(parts)}</div>'
    return f'<section{kind} aria-labelledby="h{number}">{heading}{said}{body}</section>'


def _drawings(chart: Chart, number: int) -> str:
    if chart.on_phone is None:
        return svg(chart.draw, f"c{number}")
    on_phone = svg(chart.on_phone, f"p{number}")
    return f'<div class="screen">{svg(chart.draw, f"c{number}")}</div><div class="phone">{on_phone}</div>'


def _table(table: Table, title: str) -> str:
    head = "".join(f'<th scope="col">{_text(heading)}</th>' for heading in table.headings)
    rows = "\n".join(
        f'<tr><th scope="row">{_text(row[0])}</th>' + "".join(f"<td>{_text(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in table.rows
    )
    caption = _text(table.caption)
    kind = ' class="unseen"' if table.caption == title else ""
    inside = f"<caption{kind}>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="table" role="region" tabindex="0" aria-label="{caption}"><table>{inside}</table></div>'


def _text(text: str) -> str:
    return escape(harmless(text))
