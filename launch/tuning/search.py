"""The search for the values of an experiment that is tuned: rounds of runs, of which the best are chosen."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.statistics.run_labels import describe, listed
from basinet.launch.progress_bar import TerminalMonitor, checking, how_many
from basinet.launch.results import Results, failures
from basinet.launch.terminal import console, messages
from basinet.launch.tuning.choosing import Draw, Score, at_edge, best_of
from basinet.launch.tuning.search_plan import MOST_STEPS, Judge, of_the_search, rung_of
from basinet.launch.tuning.tuning_record import check_free, described, discard_rounds, finished_choices
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.tuning.tuned_experiment import Candidate, TunedExperiment, combined
from basinet.sim.experiment.tuning.tuning_request import beyond
from basinet.sim.run.files import sealed_json, write_atomically
from basinet.sim.run.interruptions import stopping
from basinet.sim.run.lock import locked
from basinet.sim.run.quantity import Direction
from basinet.sim.run.records import METRICS, SEARCH, TUNING, load_status, read_lines
from basinet.sim.run.simulation import Interrupted, RunFailed, build, prepare, simulate
from basinet.sim.setup.setup import Setup

__all__ = ["searched"]

_MOST_NAMES = 3
"""Number of choices up to which a message names them."""


def searched(tuned: TunedExperiment, out: Path, *, fresh: bool, quiet: bool) -> dict[str, Candidate]:
    """Search for the values of an experiment, unless that is done already.

    Args:
        tuned: The experiment.
        out: Its folder.
        fresh: Whether to discard what the folder holds.
        quiet: Whether to hide progress.

    Returns:
        What was chosen for each group of runs.

    Raises:
        ExperimentError: Something is impossible, or the folder holds something else; nothing was written.
        Interrupted: The search was stopped.
        RunFailed: A run of the search has failed.
    """
    record = {} if fresh else check_free(tuned, out)
    known = finished_choices(tuned, record)
    if known is not None:
        return known
    with checking(len(tuned.runs), quiet=quiet) as progress:
        build(tuned, check=check_analysis, progress=progress)
    return _Search(tuned, out, fresh=fresh, quiet=quiet).carry_out()


class _Search:
    """A search in progress."""

    def __init__(self, tuned: TunedExperiment, out: Path, *, fresh: bool, quiet: bool) -> None:
        self.tuned, self.out, self.fresh, self.quiet = tuned, out, fresh, quiet
        self.scores: dict[str, list[Score]] = {group: [] for group in tuned.groups}
        self.group_of = {name: group for group, names in tuned.groups.items() for name in names}
        self.tried: dict[str, list[Any]] = {key: list(values) for key, values in tuned.tuning.values.items()}
        self.added: dict[tuple[str, bool], int] = {}
        self.rounds: list[str] = []
        self.notes: list[str] = []
        self.judge = Judge(tuned.tuning.by)

    @property
    def direction(self) -> Direction:
        """Which values of the metric are better."""
        assert self.judge.known.direction is not None  # as `judged_by` has checked
        return self.judge.known.direction

    def carry_out(self) -> dict[str, Candidate]:
        """Carry out all rounds, write the record, and return the choice of each group."""
        self._round(self.tuned.candidates, "1-given")
        while new := self._extended():
            self._round(new, f"{len(self.rounds) + 1}-extended")
        found = dict.fromkeys(self.scores, self.tuned.candidates[0])  # where nothing is possible
        for group, scores in self.scores.items():
            if not scores:
                continue
            (best,) = best_of(scores, self.direction)
            found[group] = scores[best].values
            if scores[best].moments[0] is None:
                self.notes.append(f"{group}: all candidates diverged; of them, the one that went furthest is taken")
                continue
            for key, largest in at_edge(found[group], self.tried).items():
                end = "largest" if largest else "smallest"
                self.notes.append(f"{group}: the best {key}, {describe(found[group][key])}, is the {end} tried")
        self._record(self.scores)
        told = console(messages(), quiet=self.quiet)
        for line in (*(f"tuned {group}: {_said(values)}" for group, values in found.items()), *self.notes):
            told.print(line, soft_wrap=True, markup=False)
        return found

    def _round(self, candidates: Sequence[Candidate], name: str) -> None:
        """Try candidates out for all groups alike, and score them."""
        experiment, places = self.tuned.search(candidates)
        folder = self.out / SEARCH / name
        with of_the_search(), checking(len(experiment.runs), quiet=self.quiet) as progress:
            setups = prepare(experiment, folder, fresh=self.fresh, check=self.judge, progress=progress)
        if not self.rounds:
            if self.fresh:
                discard_rounds(self.out, name)
            self._record(None)
        self.rounds.append(f"{SEARCH}/{name}")
        entered = {group: [place for place in range(len(candidates))] for group in self.scores}
        latest: dict[str, dict[int, Score]] = {group: {} for group in self.scores}
        rungs = self.tuned.tuning.rungs(len(candidates))
        for number, (share, _) in enumerate(rungs):
            going = {
                run: setup for run, setup in setups.items() if places[run][1] in entered[self.group_of[places[run][0]]]
            }
            ends = {run: rung_of(setup, share) for run, setup in going.items()}
            until = None if all(ends[run] == setup.num_steps for run, setup in going.items()) else ends
            self._go(going, folder, until, name)
            for group in self.scores:
                for place in entered[group]:
                    mine = [run for run in going if places[run][1] == place and self.group_of[places[run][0]] == group]
                    if mine:
                        latest[group][place] = self._score(candidates[place], mine, setups, folder, until, places)
                if until is not None:
                    known = [place for place in entered[group] if place in latest[group]]
                    best = best_of([latest[group][place] for place in known], self.direction, rungs[number + 1][1])
                    entered[group] = sorted(known[place] for place in best)
            if until is None:
                break
        for group, found in latest.items():
            self.scores[group] += [found[place] for place in sorted(found)]

    def _record(self, scores: Mapping[str, Sequence[Score]] | None) -> None:
        """Write the record; it says whose the folder is, before it says what was chosen."""
        rounds = [] if scores is None else self.rounds
        record = described(self.tuned, self.judge.metric, self.judge.known, rounds, self.tried, scores, self.notes)
        write_atomically(self.out / TUNING, sealed_json(record))

    def _go(self, setups: Mapping[str, Setup], folder: Path, until: Mapping[str, int] | None, name: str) -> None:
        """Let runs go on until a step, or to their end."""
        with self._monitor(setups) as (monitor, stop):
            to = "" if until is None else f" to step {listed(sorted({str(step) for step in until.values()}))}"
            monitor.say(f"tuning, {name}: {how_many(len(setups))}{to} into {folder}")
            try:
                states = simulate(setups, folder, monitor, stop, until=until)
            except Interrupted:
                raise Interrupted(
                    f"stopped in the search ({name}); the progress is in {self.out}, and the same experiment into that"
                    " folder continues from there"
                ) from None
        if failed := failures(folder, states):
            failed = *failed, "the search has failed runs, so that nothing was chosen"
            raise RunFailed("\n".join(failed), Results(folder, folder / "report.html", states, failed, self.tuned))

    @contextmanager
    def _monitor(self, setups: Mapping[str, Setup]) -> Iterator[tuple[TerminalMonitor, threading.Event]]:
        judged = dict.fromkeys(setups, (self.judge.metric, self.judge.known))
        with (
            locked(self.out),
            TerminalMonitor(len(setups), quiet=self.quiet, judged_by=judged) as monitor,
            stopping(monitor.say) as stop,
        ):
            yield monitor, stop

    def _score(
        self,
        values: Candidate,
        runs: Sequence[str],
        setups: Mapping[str, Setup],
        folder: Path,
        until: Mapping[str, int] | None,
        places: Mapping[str, tuple[str, int]],
    ) -> Score:
        """Read what a candidate has reached."""
        results: dict[tuple[str, Draw], float | None] = {}
        steps = []

        def put(name: str, seed: int, values: Sequence[float | None]) -> None:
            results.update({(name, (seed, replica)): value for replica, value in enumerate(values)})

        for run in runs:
            status = load_status(folder / run)
            # A run that has gone on since, before an interruption, counts as it did at this step.
            at = status["step"] if until is None else min(status["step"], until[run])
            steps.append((at, setups[run].num_steps))
            rows = {row["replica"]: row for row in read_lines(folder / run / METRICS) if row["step"] == at}
            found = [rows.get(replica, {}).get(self.judge.metric) for replica in range(self.tuned.tuning.replicas)]
            put(places[run][0], setups[run].config.seed, found)
        tried = {places[run][0]: setup.config.seed for run, setup in setups.items()}
        for name in self.tuned.groups[self.group_of[places[runs[0]][0]]]:
            if name in tried and name not in {places[run][0] for run in runs}:  # impossible, though not with all values
                put(name, tried[name], [None] * self.tuned.tuning.replicas)
        return Score(values, results, *max(steps), ended=until is None)

    def _extended(self) -> list[Candidate]:
        """Add the next values at the ends where the best of a group is; return the new candidates."""
        edges: dict[tuple[str, bool], list[str]] = {}
        for group, scores in self.scores.items():
            if not scores:
                continue
            (best,) = best_of(scores, self.direction)
            for key, largest in at_edge(scores[best].values, self.tried).items():
                edges.setdefault((key, largest), []).append(group)
        before = combined(self.tried)
        for (key, largest), groups in edges.items():
            value = beyond(self.tried[key], up=largest)
            if value is None or self.added.get((key, largest), 0) == MOST_STEPS:
                continue
            wider = self.tried | {key: [*self.tried[key], value] if largest else [value, *self.tried[key]]}
            try:
                build(self.tuned.search([one for one in combined(wider) if one not in before])[0], check=self.judge)
            except ExperimentError as error:
                self.added[key, largest] = MOST_STEPS
                self.notes.append(f"{key} cannot be extended to {describe(value)}: {error}")
                continue
            self.tried, end = wider, "largest" if largest else "smallest"
            self.added[key, largest] = self.added.get((key, largest), 0) + 1
            who = listed(groups) if len(groups) <= _MOST_NAMES else f"{len(groups)} of {len(self.tuned.groups)} choices"
            self.notes.append(f"{key}: {describe(value)} added, since the best of {who} was the {end}")
        return [one for one in combined(self.tried) if one not in before]


def _said(values: Candidate) -> str:
    return ", ".join(f"{key}={describe(value)}" for key, value in values.items())
