"""Self-contained HTML pages: no scripts, nothing from the web, light and dark, readable on a phone."""

import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Placeholder colours of figures, and the CSS variables of STYLE that replace them on the page.
INK, MUTED, GRID, LINE, BAND, OTHER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", LINE: "line", BAND: "band", OTHER: "other"}
LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",  # text remains text instead of paths
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "grid.color": GRID,
    **dict.fromkeys(["text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"], INK),
    **dict.fromkeys(["axes.edgecolor", "xtick.color", "ytick.color"], MUTED),
}
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f4f5f7; --ink: #1b1e23; --muted: #5d6570; --grid: #dfe2e6;
  --line: #0072b2; --band: #56b4e9; --other: #b04a00 }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --card: #1f242b; --ink: #e9ecf0; --muted: #a2abb7;
  --grid: #363d47; --line: #6cc0f5; --band: #2f78a8; --other: #f0a35e } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0 } h2 { font-size: 1.15rem; margin: 1.8rem 0 .4rem } h3 {
font-size: 1rem; margin: 1.2rem 0 .3rem } p { margin: .4rem 0 } a { color: var(--line) } .note { color:
var(--muted); font-size: .9rem } .warning { color: var(--other) } .cards { display: grid; grid-template-columns:
repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: .8rem 0 } .card { background: var(--card); border-radius:
.5rem; padding: .6rem .8rem } .card b { font-size: 1.3rem } figure { margin: .4rem 0 } svg { display: block; width:
100%; height: auto } .phone { display: none } .small { max-width: 27rem }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: .4rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric:
tabular-nums; font-size: .92rem } th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid
var(--grid); white-space: nowrap } th { color: var(--muted); font-weight: 600; white-space: normal; vertical-align:
bottom } th:first-child, td:first-child { text-align: left; padding-left: 0 } @media (max-width: 40rem) { body {
padding: .7rem } .phone { display: block } .desk { display: none }
  table { font-size: .84rem } th, td { padding: .2rem } th { font-size: .78rem } td:first-child { white-space:
  normal } }
summary { cursor: pointer; margin: .6rem 0 }
"""


def format_page(title: str, body: str) -> str:
    """Return an HTML page; `title` is plain text, `body` is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def format_html_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table of plain texts."""
    head_cells = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    row_cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head_cells}</tr></thead><tbody>'
        + "".join(f"<tr>{cells}</tr>\n" for cells in row_cells)
        + "</tbody></table></div>"
    )


def format_svg(figure: Figure, name: str, description: str) -> str:
    """Return `figure`, drawn with the settings LOOK, as an SVG element in the colours and font of the page.

    `name` must be unique on the page. The bytes depend on the content of the figure alone.
    """
    file = io.StringIO()
    no_metadata = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata=no_metadata, transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # These ids are not unique on a page with several figures, and nothing refers to them.
    text = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    label = html.escape(description)
    return re.sub(
        r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{label}">', text
    )
