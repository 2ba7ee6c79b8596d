"""Stage `index`: one page with the leaderboards and figures of all reports."""

import base64
import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, require_input
from stages.lib.reports.page import format_page

REPORTS = Path("data/report")
TASKS = {"station": "The station", "forecast": "The notebooks", "reviews": "The reviews"}
# Headings of the columns on the page, which has room for five on a phone.
COLUMNS = re.compile(r"model|(val|test) MAE( [\d.]+h)?,? \S+|test skill|(val|test) accuracy|parameters")


def select_columns(text: str) -> str:
    """Remove the columns of the Markdown tables in `text` whose headings do not match COLUMNS."""
    lines, selected = [], list[int]()
    for line in text.splitlines():
        cells = line.split("|")[1:-1] if line.startswith("|") else []
        if not cells:
            selected = []
        elif not selected:
            selected = [index for index, cell in enumerate(cells) if COLUMNS.fullmatch(cell.strip())]
        lines.append(f"|{'|'.join(cells[index] for index in selected)}|" if cells else line)
    return "\n".join(lines)


def format_short_leaderboard(task: str) -> str:
    """Return metrics/TASK.md as HTML with fewer columns and with headings two levels deeper."""
    path = Path(f"metrics/{task}.md")
    text = require_input(path, f"report_{task}").read_text(encoding="utf-8")
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(select_columns(text))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + 2, 6)}"
    body = markdown.renderer.render(tokens, markdown.options, {})
    body = re.sub(r"(?<=[a-z]_)(?=[^<>]*</(?:strong|td)>)", "<wbr>", body)  # breaks model names on a phone
    note = f'<p class="note">All columns: {path} in the repository.</p>'
    return body.replace("<table>", '<div class="scroll"><table>').replace("</table>", f"</table></div>\n{note}")


def format_figure(path: Path, task: str) -> str:
    """Return the picture at `path`, embedded in the page, with a link to its file."""
    data = base64.b64encode(require_input(path, f"report_{task}").read_bytes()).decode()
    name = html.escape(path.stem.replace("_", " "))
    link = path.relative_to(REPORTS).as_posix()
    return f'<figure><a href="{link}"><img alt="{name}" src="data:image/png;base64,{data}"></a></figure>'


def format_report_section(task: str, title: str) -> str:
    """Return the section of `task`: the leaderboard, the figures, and links to the learning curves."""
    folder = REPORTS / task
    curves = sorted(folder.glob("*/*.csv"))
    links = ", ".join(
        f'<a href="{path.relative_to(REPORTS).as_posix()}">{html.escape(f"{path.stem} ({path.parent.name})")}</a>'
        for path in curves
    )
    return (
        f'<section id="{task}">\n<h2>{title}</h2>\n{format_short_leaderboard(task)}'
        + "\n".join(format_figure(path, task) for path in sorted(folder.glob("*.png")))
        + (f'\n<p class="note">Learning curves as tables: {links}</p>' if links else "")
        + "\n</section>"
    )


def index() -> None:
    """Write data/report/index.html from the reports that exist."""
    titles = {task: title for task, title in TASKS.items() if (REPORTS / task).is_dir()}
    if not titles:
        raise UserError(f"{REPORTS}: expected a report, found none; make one with `dvc repro report_station`")
    links = " · ".join(f'<a href="#{task}">{title}</a>' for task, title in titles.items())
    sections = "\n".join(format_report_section(task, title) for task, title in titles.items())
    with atomic_output(REPORTS / "index.html") as path:
        path.write_text(
            format_page("How good is it?", f"<h1>How good is it?</h1>\n<p>{links}</p>\n{sections}"),
            encoding="utf-8",
        )
    print(f"{REPORTS / 'index.html'}: {', '.join(titles)}")
