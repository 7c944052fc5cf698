"""Runs without reports, whose figures take most of their time, or with the least measuring, where it is no matter."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest


@contextmanager
def without_reports() -> Iterator[None]:
    import_module("basinet.launch.cli.commands.report_command")  # which writes them, whoever imports it first
    with pytest.MonkeyPatch.context() as patch:
        for place in ("launch.cli.commands.analyze_command", "analysis.report.report"):
            patch.setattr(f"basinet.{place}.write_report", lambda folder: Path(folder) / "report.html")
        yield


@contextmanager
def least_effort() -> Iterator[None]:
    from basinet.analysis.measures.measured import LEAST
    from basinet.analysis.runs.measure_replica import measure_replica

    with pytest.MonkeyPatch.context() as patch:
        for place in ("launch.api", "analysis.runs.measure_again"):
            patch.setattr(f"basinet.{place}.measure_replica", partial(measure_replica, effort=LEAST))
        yield
