"""A table of text, as Markdown, LaTeX, or for a terminal."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
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
    """

    titles: Sequence[str]
    sections: dict[str, list[list[Cell]]]
    notes: Sequence[str] = field(default_factory=tuple)

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
        return "\n".join([*lines, "", *(f"{_in_markdown(note)}  " for note in self.notes)]).rstrip() + "\n"

    def latex(self) -> str:
        r"""Format it as LaTeX.

        Returns:
            A `tabular` with the rules of the package booktabs; the notes are comments.
        """
        width = len(self.titles)
        lines = [
            *(f"% {note}" for note in self.notes),
            rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
            r"\toprule",
            _ampersands(map(_in_latex, self.titles)),
        ]
        for title, rows in self.sections.items():
            lines.append(r"\midrule")
            if title:
                lines.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{_in_latex(title)}}}}} \\")
            for row in rows:
                lines.append(_ampersands(rf"\textbf{{{_in_latex(c.text)}}}" if c.bold else _in_latex(c.text) for c in row))
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def terminal(self, width: int) -> Stack:
        """Lay it out for a terminal.

        Args:
            width: Its width; columns that do not fit go to further tables below.

        Returns:
            What rich can draw.
        """
        rows = [row for section in self.sections.values() for row in section]
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
            for title, section in self.sections.items():
                if title:
                    table.add_section()
                    table.add_row(Text(title, "italic"))
                for row in section:
                    table.add_row(*(Text(row[i].text, "bold" if row[i].bold else "") for i in columns))
            drawn.append(table)
        return Stack(*drawn, *(Text(note, "dim italic") for note in self.notes))


def _pipes(texts: Sequence[str] | map) -> str:
    return f"| {' | '.join(texts)} |"


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


def _ampersands(texts) -> str:
    return rf"{' & '.join(texts)} \\"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "−": r"$-$", "–": "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≥": r"$\geq$", "≤": r"$\leq$",
    "²": r"$^2$", "∞": r"$\infty$",
    **{letter: rf"${name}$" for letter, name in zip(
        "αβγδεηθκλμνξπρστφχψωΔΣ",
        (r"\alpha \beta \gamma \delta \varepsilon \eta \theta \kappa \lambda \mu \nu \xi \pi \rho \sigma \tau \varphi"
         r" \chi \psi \omega \Delta \Sigma").split(),
        strict=True,
    )},
}  # fmt: skip
_POWER = re.compile(r"\((.*?)\)e(-?\d+)|(?<![\w.])(-?\d+(?:\.\d+)?)e([-+]?\d+)(?![\w.])")


def _in_latex(text: str) -> str:
    """Escape text for LaTeX; powers of ten are written out."""
    parts, end = [], 0
    for power in _POWER.finditer(text):
        amount, exponent = (f"({power[1]})", power[2]) if power[1] is not None else (power[3], power[4])
        parts += [text[end : power.start()], (amount, int(exponent))]
        end = power.end()
    found = [
        _escaped(part) if isinstance(part, str) else rf"{_escaped(part[0])}$\,\times 10^{{{part[1]}}}$"
        for part in [*parts, text[end:]]
    ]
    return "".join(found)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()) or text.strip())
