"""Runs without their reports, of which most of the time goes into figures, where they are not the matter."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def without_reports() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for place in ("launch.cli.commands.analyze_command", "analysis.report.report"):
            patch.setattr(f"basinet.{place}.write_report", lambda folder: Path(folder) / "report.html")
        yield
