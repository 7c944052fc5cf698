"""Pages that need no other file: the frame that reports share, their tables, and figures with their data."""

import base64
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import matplotlib

from basinet.analysis.plots.gallery import Drawing
from basinet.analysis.summary import write_csv
from basinet.sim.folder import write_atomically

__all__ = ["figure_html", "list_html", "table_html", "write_page"]

_FRAME = Path(__file__).with_name("page_template.html")


def write_page(page: Path, template: Path, parts: Mapping[str, str]) -> Path:
    """Write a page.

    Args:
        page: The file.
        template: What the page says, with places for the parts.
        parts: HTML by place; the frame takes `title` and `lead`, the template the others.

    Returns:
        The file.
    """
    body = Template(template.read_text(encoding="utf-8")).substitute(parts)
    frame = Template(_FRAME.read_text(encoding="utf-8"))
    write_atomically(page, frame.substitute(title=parts["title"], lead=parts["lead"], body=body))
    return page


def figure_html(drawing: Drawing, folder: Path) -> str:
    """Write a figure as PNG and SVG, and the data it was drawn from as CSV, and place it in a page.

    Args:
        drawing: The figure, laid out by it.
        folder: Where the files go.

    Returns:
        HTML that holds the picture.
    """
    write_csv(drawing.rows, folder / f"{drawing.name}.csv")
    layout = drawing.figure.get_layout_engine()
    if layout is not None:  # laid out once for both files: this takes longer than to draw
        layout.execute(drawing.figure)
        drawing.figure.set_layout_engine("none")
    png, svg = io.BytesIO(), io.BytesIO()
    drawing.figure.savefig(png, format="png", dpi=130)
    with matplotlib.rc_context({"svg.hashsalt": "basinet"}):  # nothing depends on when it was written
        drawing.figure.savefig(svg, format="svg", metadata={"Date": None})
    write_atomically(folder / f"{drawing.name}.png", png.getvalue())
    write_atomically(folder / f"{drawing.name}.svg", svg.getvalue())
    data = base64.b64encode(png.getvalue()).decode()
    return (
        f'<h3>{escape(drawing.title)}</h3>\n<figure><img alt="{escape(drawing.title)}" '
        f'src="data:image/png;base64,{data}">\n<figcaption>{escape(drawing.caption)}</figcaption></figure>'
    )


def list_html(sentences: Iterable[str]) -> str:
    """Write sentences as a list.

    Args:
        sentences: Plain text.

    Returns:
        HTML.
    """
    return "<ul>\n" + "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "\n</ul>"


def table_html(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int]) -> str:
    """Write a table without the columns that are empty in every row.

    Args:
        headings: Plain text, one a column.
        rows: Plain text, one a column each.
        numbers: Which columns hold numbers.

    Returns:
        HTML.
    """
    shown = [column for column in range(len(headings)) if any(row[column] for row in rows)]

    def line(tag: str, texts: Sequence[str]) -> str:
        kinds = [' class="number"' if column in numbers else "" for column in shown]
        cells = [f"<{tag}{kind}>{escape(texts[column])}</{tag}>" for kind, column in zip(kinds, shown, strict=True)]
        return f"<tr>{''.join(cells)}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    table = f"<table>\n<thead>{line('th', headings)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return f'<div class="scroll numbers">{table}</div>'
