"""Runs without reports, trials or much measuring where these are not the matter: they take most of the time."""

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
def with_one_figure() -> Iterator[None]:
    """Draw in reports the curves of the loss alone."""
    from basinet.analysis.report import gallery

    with pytest.MonkeyPatch.context() as patch:
        found = lambda runs: [drawing for drawing in [gallery._curves(runs, "train_loss")] if drawing]  # noqa: E731
        patch.setattr("basinet.analysis.report.report.gallery", found)
        yield


@contextmanager
def with_trials(trial: bool) -> Iterator[None]:
    """Build runs with or without trying their parts out together."""
    from basinet.sim.setup.build import build_setup

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(build_setup.__wrapped__.__kwdefaults__, "trial", trial)  # type: ignore[attr-defined]
        yield


@contextmanager
def least_effort() -> Iterator[None]:
    from basinet.analysis.measures.measured import LEAST
    from basinet.analysis.runs.measure_replica import measure_replica

    with pytest.MonkeyPatch.context() as patch:
        for place in ("launch.api", "analysis.runs.measure_again"):
            patch.setattr(f"basinet.{place}.measure_replica", partial(measure_replica, effort=LEAST))
        yield
