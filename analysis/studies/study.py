"""Studies: published claims, measured again and compared with the predictions of their theory."""

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
"""Subfolder of a study's experiments."""

Progress = Callable[[float, str], None]
"""Called with the fraction done, from 0 to 1, and a description of the current work."""


@dataclass(frozen=True)
class Check:
    """One claim: prediction and measurement.

    Attributes:
        claim: The claim in words.
        predicted: The prediction, a number or words.
        measured: The measurement, a number or words.
        rule: The rule by which the two agree, in words.
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
            claim: The claim in words.
            predicted: The prediction.
            measured: The measurement.
            within: Maximum absolute difference.

        Returns:
            The check.

        Example:
            >>> Check.near("slope", -0.25, -0.22, within=0.05).verdict
            'agrees'
        """
        return cls(claim, predicted, measured, f"within {within:.3g}", abs(measured - predicted) <= within)

    @property
    def verdict(self) -> str:
        """The verdict in a word or two."""
        return "agrees" if self.agrees else self.otherwise

    def row(self) -> dict[str, float | str]:
        """Convert the check to a row of a table.

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
        """Format the row as text.

        Returns:
            One text per column.
        """
        return [value if isinstance(value, str) else f"{value:.4g}" for value in self.row().values()]


@dataclass(frozen=True)
class Findings:
    """The findings of a study.

    Attributes:
        title: Title of the study.
        about: Paragraphs on what was run and measured.
        checks: Comparisons of theory and measurement.
        drawings: The figures, with their data.
        sources: The papers.
    """

    title: str
    about: Sequence[str]
    checks: Sequence[Check]
    drawings: Sequence[Drawing]
    sources: Sequence[str]


Count = Annotated[int, Field(ge=1, le=10_000)]
"""A number of repetitions, replicas or processes."""

Study = Callable[..., Findings]
"""A function that runs a study, by default in minutes on two processors; its docstring's first line describes it.

It takes `progress`, and if it has resumable trainings, the `folder` of its findings. Its other parameters are settings,
with defaults. Long computations go through `once`, so that they are not repeated after an interruption.
"""


def check_folder(folder: Path) -> None:
    """Raise if a folder holds something other than a study, or cannot be written.

    Args:
        folder: Folder for the findings.

    Raises:
        ExperimentError: If it is a file, holds files but no study, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ExperimentError(f"--out: {folder} is a file; choose a folder")
    known = any((folder / name).exists() for name in (_CHECKS, JOURNAL))
    known = known or any((folder / TRAININGS).glob("*/*/config.yaml"))
    if folder.exists() and not known and any(not is_leftover(path) for path in folder.iterdir()):
        raise ExperimentError(f"--out: {folder} holds something other than a study; choose another folder")
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ExperimentError(f"--out: {folder} cannot be written, since nothing can be written into {nearest}")
    if (free := shutil.disk_usage(nearest).free) < _ROOM:
        raise ExperimentError(
            f"--out: the findings take up to {in_units(_ROOM)}, and {in_units(free)} are free at {folder}"
        )


def write_findings(findings: Findings, folder: Path, *, command: str, seconds: float) -> Path:
    """Write the findings of a study.

    Args:
        findings: The findings.
        folder: Receives `checks.csv`, `figures/NAME.png` and `.csv`, and `report.html`.
        command: The command that repeats the study.
        seconds: Duration of the study in seconds.

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
