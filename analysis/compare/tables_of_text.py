"""A table of text, as Markdown, LaTeX, or for a terminal."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable
from rich.console import Group as Stack
from rich.table import Table as Drawn
from rich.text import Text

from basinet.analysis.statistics.columns import split_columns

__all__ = ["Cell", "TextTable"]


class Cell(NamedTuple):
    """A cell.

    Attributes:
        text: Its text.
        bold: Whether it is emphasised.
    """

    text: str
    bold: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table in sections.

    Attributes:
        titles: The headings; the first column has names, the others numbers.
        sections: Rows by the heading of their section, which is empty if there is a single one.
        notes: Sentences about how to read it.
        emphasis: What bold cells are; empty if there are none.
    """

    titles: Sequence[str]
    sections: dict[str, list[list[Cell]]]
    notes: Sequence[str] = field(default_factory=tuple)
    emphasis: str = ""

    def legend(self, mark: str = "bold") -> list[str]:
        """List all sentences about how to read it.

        Args:
            mark: How bold cells are marked.

        Returns:
            The notes, and what the mark says.
        """
        return [*self.notes, *([f"{mark}: {self.emphasis}"] if self.emphasis else [])]

    def markdown(self) -> str:
        """Format it as Markdown.

        Returns:
            A table with pipes; headings of sections are a column of their own.
        """
        named = any(self.sections)
        head = [*(["condition"] if named else []), *self.titles]
        lines = [_pipes(map(_in_markdown, head)), _pipes(["---"] * (1 + named) + ["--:"] * (len(self.titles) - 1))]
        for title, rows in self.sections.items():
            for row in rows:
                texts = [f"**{_in_markdown(cell.text)}**" if cell.bold else _in_markdown(cell.text) for cell in row]
                lines.append(_pipes([*([_in_markdown(title)] if named else []), *texts]))
        return "\n".join([*lines, "", *(f"{_in_markdown(note)}  " for note in self.legend())]).rstrip() + "\n"

    def latex(self) -> str:
        r"""Format it as LaTeX.

        Returns:
            A `tabular` with the rules of the package booktabs; the notes are comments.
        """
        width = len(self.titles)
        lines = [
            *(f"% {note}" for note in self.legend()),
            rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
            r"\toprule",
            _ampersands(map(_in_latex, self.titles)),
        ]
        for title, rows in self.sections.items():
            lines.append(r"\midrule")
            if title:
                lines.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{_in_latex(title)}}}}} \\")
            for row in rows:
                lines.append(
                    _ampersands(rf"\textbf{{{_in_latex(c.text)}}}" if c.bold else _in_latex(c.text) for c in row)
                )
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def html(self) -> str:
        """Format it as HTML.

        Returns:
            A table, and the notes below it.
        """
        lines = [_in_html([Cell(title) for title in self.titles], "th")]
        for title, rows in self.sections.items():
            if title:
                lines.append(f'<tr><th colspan="{len(self.titles)}" style="text-align:left">{escape(title)}</th></tr>')
            lines += [_in_html(row, "td") for row in rows]
        notes = "".join(f"<p><em>{escape(note)}</em></p>" for note in self.legend())
        return f"<table>\n{chr(10).join(lines)}\n</table>\n{notes}"

    def terminal(self, width: int) -> ConsoleRenderable:
        """Lay it out for a terminal.

        Args:
            width: Its width; columns that do not fit go to further tables below.

        Returns:
            What rich can draw. Where text cannot be bold, as in a file, an asterisk follows it.
        """
        return _OnConsole(self, width)

    def laid_out(self, width: int, mark: str) -> Stack:
        """Lay it out for a terminal or a file.

        Args:
            width: Its width.
            mark: What follows bold text; empty where it is seen that it is bold.

        Returns:
            What rich can draw.
        """
        rows = [row for section in self.sections.values() for row in section]
        marks = [mark if any(row[i].bold for row in rows) else "" for i in range(len(self.titles))]
        sections = {
            title: [
                [
                    Cell(text + (end if is_bold else " " * len(end)), is_bold)
                    for (text, is_bold), end in zip(row, marks, strict=True)
                ]
                for row in section
            ]
            for title, section in self.sections.items()
        }
        rows = [row for section in sections.values() for row in section]
        titles = [self.titles[0], *(title.replace(" ", "\n", 1) for title in self.titles[1:])]
        widths = [
            2 + max(cell_len(line) for text in (titles[i], *(row[i].text for row in rows)) for line in text.split("\n"))
            for i in range(len(titles))
        ]
        widths[0] = min(widths[0], max(20, width - max(widths[1:], default=0)))
        drawn = []
        for columns in split_columns(widths, width - 1):
            table = Drawn(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for i in columns:
                least = widths[i] - 2 if i else None
                table.add_column(Text(titles[i]), justify="right" if i else "left", no_wrap=bool(i), min_width=least)
            for title, section in sections.items():
                if title:
                    table.add_section()
                    table.add_row(Text(title, "italic"))
                for row in section:
                    if {row[i].text.strip() for i in columns[1:]} <= {"", "–"}:  # it has nothing in this part
                        continue
                    table.add_row(*(Text(row[i].text, "bold" if row[i].bold else "") for i in columns))
            drawn.append(table)
        return Stack(*drawn, *(Text(note, "dim italic") for note in self.legend(mark or "bold")))


class _OnConsole(NamedTuple):
    """A table that is marked as the console that draws it allows."""

    table: TextTable
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Stack]:
        yield self.table.laid_out(self.width, "" if console.color_system else "*")


def _in_html(cells: Iterable[Cell], kind: str) -> str:
    texts = (f"<b>{escape(text)}</b>" if bold else escape(text) for text, bold in cells)
    return f"<tr>{''.join(f'<{kind}>{text}</{kind}>' for text in texts)}</tr>"


def _pipes(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


def _ampersands(texts: Iterable[str]) -> str:
    line = " & ".join(texts)
    return rf"{'{}' if line.startswith(('[', '*')) else ''}{line} \\"  # they would belong to the command before


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "−": r"$-$", "–": "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≥": r"$\geq$", "≤": r"$\leq$",
    "²": r"$^2$", "∞": r"$\infty$",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\varepsilon$", "η": r"$\eta$",
    "θ": r"$\theta$", "κ": r"$\kappa$", "λ": r"$\lambda$", "μ": r"$\mu$", "π": r"$\pi$", "ρ": r"$\rho$",
    "σ": r"$\sigma$", "τ": r"$\tau$", "φ": r"$\varphi$", "χ": r"$\chi$", "ω": r"$\omega$",
}  # fmt: skip
_POWER = re.compile(r"\((.*?)\)e(-?\d+)|(?<![\w.])(-?\d+(?:\.\d+)?)e([-+]?\d+)(?![\w.])")


def _in_latex(text: str) -> str:
    """Escape text for LaTeX; powers of ten are written out."""
    found, end = "", 0
    for power in _POWER.finditer(text):
        amount, exponent = (f"({power[1]})", power[2]) if power[1] is not None else (power[3], power[4])
        found += rf"{_escaped(text[end : power.start()])}{_escaped(amount)}$\,\times 10^{{{int(exponent)}}}$"
        end = power.end()
    return found + _escaped(text[end:])


def _escaped(text: str) -> str:
    found = "".join(_LATEX.get(letter, letter) for letter in re.sub(r"\s", " ", text))
    return re.sub(r"\$\\lambda\$\\_(max|min)", r"$\\lambda_{\\\1}$", found)
