"""One page of all reports: every table and figure of the station, the notebooks and the reviews in one file."""

import base64
import html
from pathlib import Path

from markdown_it import MarkdownIt

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, require_input
from stages.lib.reports.page import format_page

REPORTS = Path("data/report")
TASKS = {"station": "The station", "forecast": "The notebooks", "reviews": "The reviews"}


def format_board(task: str) -> str:
    """metrics/TASK.md as HTML, its headings two levels deeper, wide tables to be scrolled."""
    text = require_input(f"metrics/{task}.md", f"report_{task}").read_text(encoding="utf-8")
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + 2, 6)}"
    found = markdown.renderer.render(tokens, markdown.options, {})
    return found.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")


def format_figure(path: Path, task: str) -> str:
    """The picture at `path`, in the page itself, and a link to its file."""
    data = base64.b64encode(require_input(path, f"report_{task}").read_bytes()).decode()
    name = html.escape(path.stem.replace("_", " "))
    link = path.relative_to(REPORTS).as_posix()
    return f'<figure><a href="{link}"><img alt="{name}" src="data:image/png;base64,{data}"></a></figure>'


def format_section(task: str, title: str) -> str:
    """What the report of `task` says, its figures, and links to the tables of the curves."""
    folder = REPORTS / task
    curves = sorted(folder.glob("*/*.csv"))
    links = ", ".join(
        f'<a href="{path.relative_to(REPORTS).as_posix()}">{html.escape(f"{path.stem} ({path.parent.name})")}</a>'
        for path in curves
    )
    return (
        f'<section id="{task}">\n<h2>{title}</h2>\n{format_board(task)}'
        + "\n".join(format_figure(path, task) for path in sorted(folder.glob("*.png")))
        + (f'\n<p class="note">Learning curves as tables: {links}</p>' if links else "")
        + "\n</section>"
    )


def index() -> None:
    """Write data/report/index.html from the reports that are there."""
    made = {task: title for task, title in TASKS.items() if (REPORTS / task).is_dir()}
    if not made:
        raise UserError(f"{REPORTS}: expected a report, found none; make one with `dvc repro report_station`")
    links = " · ".join(f'<a href="#{task}">{title}</a>' for task, title in made.items())
    parts = "\n".join(format_section(task, title) for task, title in made.items())
    with atomic_output(REPORTS / "index.html") as path:
        path.write_text(
            format_page("How good is it?", f"<h1>How good is it?</h1>\n<p>{links}</p>\n{parts}"), encoding="utf-8"
        )
    print(f"{REPORTS / 'index.html'}: {', '.join(made)}")
