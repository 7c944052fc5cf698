"""Run a study of a published claim, and write its findings."""

import inspect
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from basinet.analysis.studies import STUDIES, TRAININGS, Findings, check_folder, write_findings
from basinet.analysis.studies.journal import JOURNAL, journal
from basinet.launch.listing import describe_settings
from basinet.launch.progress_bar import bar
from basinet.sim.experiment.component import ExperimentError, Kind, nearest
from basinet.sim.experiment.words import override
from basinet.sim.run.files import discard
from basinet.sim.run.interruptions import answering
from basinet.sim.run.lock import locked

__all__ = ["reproduce", "study_settings"]


def reproduce(
    name: str, words: Sequence[str] = (), *, out: str | Path, fresh: bool = False, quiet: bool = False
) -> tuple[Findings, Path]:
    """Run a study and write its findings.

    The findings are written at the end; until then the finished parts are kept in a journal, and trainings as
    experiments of their own. The same version does not repeat what is finished.

    Args:
        name: A name in `basinet.analysis.studies.STUDIES`.
        words: Settings of the study, `key=value`.
        out: Folder of the findings: a new one, or one that holds a study, which is overwritten.
        fresh: Whether to discard what the folder holds of the study.
        quiet: Whether to hide progress.

    Returns:
        The findings, and the report.

    Raises:
        ExperimentError: The study or setting does not exist, or the folder holds something else.
    """
    if name not in STUDIES:
        raise ExperimentError(f"reproduce: there is no study '{name}'; {nearest(name, STUDIES)}")
    settings: dict[str, Any] = {}
    override(settings, words)
    study = _kind(name).parse({**settings, "name": name})
    out = Path(out)
    check_folder(out)
    supplied = {"folder": out} if "folder" in inspect.signature(study.target).parameters else {}
    command = shlex.join(["basinet", "reproduce", name, *words])
    begun = time.monotonic()
    with ExitStack() as held:
        if out.is_dir():  # otherwise it is made, and locked, with the first finding: the settings may still be invalid
            held.enter_context(locked(out))
        if fresh:
            discard(out / TRAININGS)
            (out / JOURNAL).unlink(missing_ok=True)
        with bar(name, quiet=quiet) as progress, answering(_interrupt), journal(out, name):
            # Not by its `make`, which takes a ValueError for a mistake in the settings.
            findings: Findings = study.target(**supplied, progress=progress, **study.settings)
            return findings, write_findings(findings, out, command=command, seconds=time.monotonic() - begun)


def study_settings(name: str) -> dict[str, dict[str, Any]]:
    """Describe the settings of a study.

    Args:
        name: Its name.

    Returns:
        A mapping from each to "type", "default" (or "needed") and "about".
    """
    return describe_settings(_kind(name), name)


def _kind(name: str) -> Kind:
    return Kind(name, STUDIES, ("progress", "folder"))


def _interrupt(number: int) -> None:
    raise KeyboardInterrupt
