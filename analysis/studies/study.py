"""What a study is: a published claim, measured anew, and written down beside what its theory predicts."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated

from pydantic import Field

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.report.page import figure_html, list_html, table_html, write_page
from basinet.analysis.statistics.summary import write_csv
from basinet.analysis.studies.journal import JOURNAL
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.claim import versions
from basinet.sim.run.files import is_leftover
from basinet.sim.setup.memory import in_units

__all__ = ["TRAININGS", "Check", "Count", "Findings", "Progress", "Study", "check_folder", "write_findings"]

_TEMPLATE = Path(__file__).parents[1] / "report" / "study_template.html"
_CHECKS = "checks.csv"
_ROOM = 32 * 2**20

TRAININGS = "trainings"
"""Folder of the experiments of a study, in its own."""

Progress = Callable[[float, str], None]
"""Is told how much of the work is done, from 0 to 1, and what is being done."""


@dataclass(frozen=True)
class Check:
    """One claim: what the theory predicts and what was measured.

    Attributes:
        claim: What is compared.
        predicted: What the theory says, a number or words.
        measured: What came out.
        rule: When the two agree, in words.
        agrees: Whether they do.
        otherwise: The verdict if they do not.
    """

    claim: str
    predicted: float | str
    measured: float | str
    rule: str
    agrees: bool
    otherwise: str = "disagrees"

    @classmethod
    def near(cls, claim: str, predicted: float, measured: float, within: float) -> "Check":
        """Compare two numbers.

        Args:
            claim: What is compared.
            predicted: What the theory says.
            measured: What came out.
            within: How far apart they may be.

        Returns:
            The check.

        Example:
            >>> Check.near("slope", -0.25, -0.22, within=0.05).verdict
            'agrees'
        """
        return cls(claim, predicted, measured, f"within {within:.3g}", abs(measured - predicted) <= within)

    @property
    def verdict(self) -> str:
        """The verdict in a word."""
        return "agrees" if self.agrees else self.otherwise

    def row(self) -> dict[str, float | str]:
        """Lay the check out as a row of a table.

        Returns:
            Claim, prediction, measurement, rule and verdict by name.
        """
        return {
            "claim": self.claim,
            "predicted": self.predicted,
            "measured": self.measured,
            "rule": self.rule,
            "verdict": self.verdict,
        }

    def cells(self) -> list[str]:
        """Write the row as text.

        Returns:
            One text a column.
        """
        return [value if isinstance(value, str) else f"{value:.4g}" for value in self.row().values()]


@dataclass(frozen=True)
class Findings:
    """What a study has found.

    Attributes:
        title: What was studied.
        about: What was run and measured, a paragraph each.
        checks: Theory and measurement.
        drawings: The figures, with their data.
        sources: The papers.
    """

    title: str
    about: Sequence[str]
    checks: Sequence[Check]
    drawings: Sequence[Drawing]
    sources: Sequence[str]


Count = Annotated[int, Field(ge=1, le=10_000)]
"""How many repetitions, replicas or processes a study may have."""

Study = Callable[..., Findings]
"""A function that runs a study, by default in minutes on two processors; its first line says what it is.

It takes `progress`, and if it has trainings that are to be resumed the `folder` of its findings. Its other parameters
are settings, with defaults. What takes long it finds by `once`, so that it is not done again after an interruption.
"""


def check_folder(folder: Path) -> None:
    """Raise if a folder holds something else than a study, or cannot be written.

    Args:
        folder: Where the findings shall go.

    Raises:
        ExperimentError: It is a file, it holds files, but no study, or nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise ExperimentError(f"--out: {folder} is a file; choose a folder")
    known = any((folder / name).exists() for name in (_CHECKS, JOURNAL))
    known = known or any((folder / TRAININGS).glob("*/*/config.yaml"))
    if folder.exists() and not known and any(not is_leftover(path) for path in folder.iterdir()):
        raise ExperimentError(f"--out: {folder} holds something else than a study; choose another folder")
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ExperimentError(f"--out: {folder} cannot be written, since nothing can be written into {nearest}")
    if (free := shutil.disk_usage(nearest).free) < _ROOM:
        raise ExperimentError(
            f"--out: the findings take up to {in_units(_ROOM)}, and {in_units(free)} are free at {folder}"
        )


def write_findings(findings: Findings, folder: Path, *, command: str, seconds: float) -> Path:
    """Write what a study has found.

    Args:
        findings: What it has found.
        folder: Receives `checks.csv`, `figures/NAME.png`, `.svg` and `.csv`, and `report.html`.
        command: What repeats the study.
        seconds: How long it took.

    Returns:
        The page.
    """
    write_csv([check.row() for check in findings.checks], folder / _CHECKS)
    agreeing = sum(check.agrees for check in findings.checks)
    headings = ["claim", "the theory predicts", "measured", "agrees if", "verdict"]
    parts = {
        "title": escape(findings.title),
        "lead": f"{agreeing} of {len(findings.checks)} checks agree with the theory.",
        "about": "\n".join(f'<p class="about">{escape(paragraph)}</p>' for paragraph in findings.about),
        "checks": table_html(headings, [check.cells() for check in findings.checks], numbers=(1, 2)),
        "figures": "\n".join(figure_html(drawing, folder / "figures") for drawing in findings.drawings),
        "sources": list_html(findings.sources),
        "command": escape(command),
        "seconds": f"{seconds:.0f}",
        "versions": escape(", ".join(f"{package} {number}" for package, number in versions().items())),
    }
    return write_page(folder / "report.html", _TEMPLATE, parts)
