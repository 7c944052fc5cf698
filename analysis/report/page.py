"""Self-contained HTML pages: the frame that reports share, tables, and figures with their data."""

import base64
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.statistics.summary import write_csv
from basinet.sim.run.files import write_atomically

__all__ = [
    "as_svg",
    "figure_html",
    "folded_html",
    "list_html",
    "table_html",
    "text_html",
    "with_svg",
    "write_page",
]

_FRAME = Path(__file__).with_name("page_template.html")
_DPI = 130
_SHRUNK = 15.0  # points of a figure per rem where it is drawn smallest: 10 points are 11 pixels; small screens scroll
_ALMOST = {"#000000": "#010101", "#ffffff": "#fefefe"}
_OF_THE_PAGE = {"#000000": "currentColor", "#ffffff": "var(--page)"}
_DARK = 0.128  # luminance: its contrast with a dark page is 3 to 1, as WCAG 2 asks of graphics


def write_page(page: Path, template: Path, parts: Mapping[str, str]) -> Path:
    """Write a page.

    Args:
        page: The file.
        template: Template of the page's body.
        parts: HTML by placeholder; the frame takes `title` and `lead`, the template the others.

    Returns:
        The file.
    """
    body = Template(template.read_text(encoding="utf-8")).substitute(parts)
    frame = Template(_FRAME.read_text(encoding="utf-8"))
    write_atomically(page, frame.substitute(title=parts["title"], lead=parts["lead"], body=body))
    return page


_SVG: ContextVar[bool] = ContextVar("svg", default=False)


@contextmanager
def with_svg() -> Iterator[None]:
    """Draw figures as SVG, too, within this context.

    Yields:
        Nothing.
    """
    token = _SVG.set(True)
    try:
        yield
    finally:
        _SVG.reset(token)


def as_svg(folder: Path, name: str) -> bool:
    """Return whether a figure is drawn as SVG, too: if it is asked for, or has been before.

    Args:
        folder: Folder of the files.
        name: Name of the figure.

    Returns:
        Whether it is.
    """
    return _SVG.get() or (folder / f"{name}.svg").exists()


def figure_html(drawing: Drawing, folder: Path) -> str:
    """Write a figure as PNG, and as SVG if `as_svg`, with its data as CSV; return it as HTML.

    Args:
        drawing: The figure; it is laid out in the process.
        folder: Folder of the files.

    Returns:
        HTML with the picture inline. Black and white of an SVG follow the colours of the page.
    """
    write_csv(drawing.rows, folder / f"{drawing.name}.csv")
    figure = drawing.figure
    layout = figure.get_layout_engine()
    if layout is not None:  # once for both files: layout takes longer than drawing
        layout.execute(figure)
        figure.set_layout_engine("none")
    description, png = _describe(drawing), io.BytesIO()
    # `savefig` would draw each of them twice, first for the layout.
    figure.set_dpi(_DPI)
    FigureCanvasAgg(figure).print_png(png)  # type: ignore[no-untyped-call]
    write_atomically(folder / f"{drawing.name}.png", png.getvalue())
    if as_svg(folder, drawing.name):
        svg = _svg(figure, f"basinet {drawing.name}")
        write_atomically(folder / f"{drawing.name}.svg", svg)
        picture = _inline(svg.decode(), description)
    else:
        picture = _image(png.getvalue(), figure, description)
    table = ""
    if drawing.table is not None:
        headings, rows = drawing.table
        table = table_html(headings, rows, numbers=range(2, len(headings)), grouped=True)
        table = folded_html(f"{drawing.title} in numbers", table) + "\n"
    return (
        f'<section class="figure">\n<h3>{text_html(drawing.title)}</h3>\n'
        f'<figure><div class="scroll">{picture}</div>\n'
        f"<figcaption>{text_html(drawing.caption)}</figcaption></figure>\n{table}</section>"
    )


def _image(png: bytes, figure: Figure, description: str) -> str:
    """Embed a PNG file, as large as an SVG would be."""
    width, height = (72 * float(size) for size in figure.get_size_inches())
    data = base64.b64encode(png).decode()
    return (
        f'<img alt="{escape(description)}" style="width: {width:g}pt; aspect-ratio: {width:g} / {height:g}; '
        f'--least: {width / _SHRUNK:.3g}rem" src="data:image/png;base64,{data}">'
    )


def _svg(figure: Figure, salt: str) -> bytes:
    """Draw a figure as SVG, without a time stamp, for reproducible files; ids are unique among those of a page."""
    _mark_colors(figure)
    file, nothing = io.BytesIO(), dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        FigureCanvasSVG(figure).print_svg(file, metadata=nothing)  # type: ignore[no-untyped-call]
    return file.getvalue()


def _mark_colors(figure: Figure) -> None:
    """Mark black and white texts on coloured areas: unlike other text, they keep their colour on a dark page."""
    for ax in figure.axes:
        ax.patch.set_visible(False)  # the figure's own background remains
        if any(mapped.get_array() is not None for mapped in (*ax.images, *ax.collections)):
            for text in ax.texts:
                color = to_hex(text.get_color())
                if text.get_bbox_patch() is None:
                    text.set_color(_ALMOST.get(color, color))


def _inline(svg: str, description: str) -> str:
    """Convert an SVG file to inline SVG, shortened and in the colours of the page."""
    head, body = svg[svg.index("<svg") :].split(">", 1)
    width, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)pt"', head))
    style = f"--least: {width / _SHRUNK:.3g}rem"
    body = re.sub(r' (d|x|y)="([^"]*)"', lambda found: f' {found[1]}="{_shorter(found[2])}"', body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # nothing refers to group ids
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # it would apply to the whole page
    body = re.sub(r"\s*\n\s*", "\n", body)
    body = body.replace("#ffffff", "none", 1)  # a transparent background
    body = re.sub(r"#[0-9a-f]{6}\b", lambda found: _adapt(found[0]), body)
    return (
        f'<svg role="img" aria-label="{escape(description)}" width="{width:g}pt" height="{height:g}pt" '
        f'viewBox="0 0 {width:g} {height:g}" style="{style}" fill="currentColor" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{body.strip()}'
    )


def _adapt(color: str) -> str:
    """Map black and white to those of the page, and lighten dark colours on a dark page."""
    light = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]
    if color in _OF_THE_PAGE or color in _ALMOST.values() or luminance >= _DARK:
        return _OF_THE_PAGE.get(color, color)
    return f"color-mix(in srgb, {color}, #fff var(--lift))"


def _shorter(path: str) -> str:
    """Round coordinates to a hundredth of a point."""
    return re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", path).replace("\n", "").strip()


def _describe(drawing: Drawing) -> str:
    """Describe a picture in words: axes, panels, series, and the main result."""
    axes = [ax for ax in drawing.figure.axes if ax.get_label() != "<colorbar>"]
    sentences = [f"{drawing.title}."]
    for side, name in (("Horizontal", Axes.get_xlabel), ("Vertical", Axes.get_ylabel)):
        if text := next(filter(None, map(name, axes)), ""):
            sentences.append(f"{side} axis: {text}.")
    if titles := list(dict.fromkeys(filter(None, (ax.get_title() for ax in axes)))):
        sentences.append(f"{'Panels' if len(axes) > 1 else 'Panel'}: {'; '.join(titles)}.")
    legends = [legend for legend in (*drawing.figure.legends, *(ax.get_legend() for ax in axes)) if legend]
    if series := list(dict.fromkeys(text.get_text() for legend in legends for text in legend.get_texts())):
        sentences.append(f"Shown: {'; '.join(series)}.")
    return " ".join(" ".join([*sentences, drawing.finding]).split())


def text_html(text: str) -> str:
    """Convert a text with code between backticks to HTML.

    Args:
        text: Plain text.

    Returns:
        HTML.

    Example:
        >>> text_html("`a < b` holds")
        '<code>a &lt; b</code> holds'
    """
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))


def list_html(sentences: Iterable[str]) -> str:
    """Convert sentences to an HTML list.

    Args:
        sentences: Plain text.

    Returns:
        HTML.
    """
    return "<ul>\n" + "\n".join(f"<li>{text_html(sentence)}</li>" for sentence in sentences) + "\n</ul>"


def folded_html(summary: str, content: str) -> str:
    """Fold a part of a page.

    Args:
        summary: Its heading, in plain text.
        content: HTML.

    Returns:
        HTML.
    """
    return f"<details>\n<summary>{text_html(summary)}</summary>\n{content}\n</details>"


def table_html(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int], grouped: bool = False
) -> str:
    """Convert a table to HTML, without columns that are empty in every row.

    Args:
        headings: Plain text, one per column.
        rows: Plain text, one per column each.
        numbers: Indices of the columns that hold numbers.
        grouped: Whether the first column becomes a heading above each group of rows that share it.

    Returns:
        HTML. On a narrow screen each row becomes a list with the headings, which are stored in the cells.
    """
    shown = [column for column in range(grouped, len(headings)) if any(row[column] for row in rows)]

    def cell(row: Sequence[str], column: int) -> str:
        kind = ' class="number"' if column in numbers else ""
        text = text_html(row[column])
        if kind:  # break lines between numbers only, not within one
            text = " ".join(f"<span>{number}</span>" for number in re.split(r" (?=±|to )", text))
        if column == shown[0]:
            return f'<th scope="row"{kind}>{text}</th>'
        return f'<td{kind} data-label="{escape(headings[column])}">{text}</td>'

    def heading(column: int) -> str:
        kind = ' class="number"' if column in numbers else ""
        text = re.sub(r" ([↑↓])", "\N{NO-BREAK SPACE}\\1", headings[column])
        return f'<th scope="col"{kind}>{escape(text)}</th>'

    bodies = []
    for group, members in groupby(rows, key=lambda row: row[0] if grouped else ""):
        lines = [f"<tr>{''.join(cell(row, column) for column in shown)}</tr>" for row in members]
        if group:
            lines.insert(
                0, f'<tr class="group"><th scope="rowgroup" colspan="{len(shown)}">{text_html(group)}</th></tr>'
            )
        bodies.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    head = f"<thead><tr>{''.join(map(heading, shown))}</tr></thead>"
    return f'<div class="scroll"><table class="numbers">\n{head}\n{"".join(bodies)}\n</table></div>'
