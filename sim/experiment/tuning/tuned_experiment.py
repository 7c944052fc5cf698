"""Experiments whose settings are tuned: the runs of the search, and the final runs with what was chosen."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from basinet.algorithms import draws
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.digest import importable, plain
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.grids.exclusions import look_up
from basinet.sim.experiment.grids.grid import copied, lay
from basinet.sim.experiment.grids.run_names import distinct_texts, run_name, strategy_name
from basinet.sim.experiment.tuning.tuning_request import Tuning

__all__ = ["Candidate", "TunedExperiment", "combined", "search_seed"]

Candidate = dict[str, Any]
"""A value for each key that is tuned."""

_OF_THE_FINAL_RUNS = ("keep_every", "escape", "trajectory", "analysis", "metrics_on")
"""Keys that only say what is recorded of a run."""


class TunedExperiment(Experiment):
    """An experiment with the key `tune`.

    Each group of runs has a choice of its own. All groups are searched alike: with the same candidates, held-out
    samples and seeds, which are others than those of the final runs.

    Args:
        description: As for `Experiment`, with `tune`: see `Tuning`.
        **values: The same as keywords.

    Attributes:
        tuning: What is tuned, and how.
        groups: The runs of each group.
        runs: Configuration of each final run, with the first candidate until another one is chosen.

    Raises:
        ExperimentError: Something in it is not allowed.

    Example:
        >>> common = {"task": "digits", "topology": {"name": "ring", "agents": 4}, "strategy": ["relay", "diffusion"]}
        >>> e = TunedExperiment({**common, "tune": {"optimizer.lr": [0.1, 0.3, 1]}})
        >>> e.groups, list(e.search([{"optimizer.lr": 1}])[0].runs)
        ({'relay': ['relay'], 'diffusion-atc': ['diffusion-atc']}, ['relay_lr=1', 'diffusion-atc_lr=1'])
    """

    def __init__(self, description: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        super().__init__(description, **values)
        axes = dict.fromkeys(axis for named, _ in self.points.values() for axis in named)
        self.tuning = Tuning.parse(self.description["tune"], axes)
        self._check_apart()
        self.groups: dict[str, list[str]] = {}
        for name, (named, _) in self.points.items():
            self.groups.setdefault(self._group(name, named), []).append(name)
        first = {key: several[0] for key, several in self.tuning.values.items()}
        self.runs = self.chosen(dict.fromkeys(self.groups, first)).runs
        self.search(self.candidates)  # which are all to be allowed

    @property
    def candidates(self) -> list[Candidate]:
        """All combinations of the values given."""
        return combined(self.tuning.values)

    def search(self, candidates: Sequence[Candidate]) -> tuple[Experiment, dict[str, tuple[str, int]]]:
        """Return the runs that try candidates out.

        Args:
            candidates: The candidates.

        Returns:
            The experiment; and for each of its runs the final run that it is for, and the number of the candidate.

        Raises:
            ExperimentError: A value is not allowed.
        """
        texts = [distinct_texts([values[key] for values in candidates]) for key in self.tuning.values]
        configs: dict[str, Config] = {}
        places: dict[str, tuple[str, int]] = {}
        for name, (axes, point) in self.points.items():
            seed = self.runs[name].seed
            changed = {key: value for key, value in point.items() if key not in _OF_THE_FINAL_RUNS} | {
                "replicas": self.tuning.replicas,
                "validation": {"share": self.tuning.share, "seed": seed},
                "seed": search_seed(seed),
                "analysis": [],
            }
            for number, values in enumerate(candidates):
                named = axes | {key: text[number] for key, text in zip(self.tuning.values, texts, strict=True)}
                config = self._parse(changed, values)
                full = run_name(config, named)
                unique = f"{full}-{number + 1}" if full in configs else full
                configs[unique], places[unique] = config, (name, number)
        return self.with_runs(configs), places

    def chosen(self, choices: Mapping[str, Candidate]) -> "TunedExperiment":
        """Return the final runs with what was chosen.

        Args:
            choices: The choice of each group.

        Returns:
            The experiment.
        """
        keys = tuple(self.tuning.values)
        configs: dict[str, Config] = {}
        for group, names in self.groups.items():
            for name in names:
                config = self._parse(self.points[name][1], choices[group])
                own = tuple(dict.fromkeys([*(config.strategy_keys or ()), *keys]))
                configs[name] = config.model_copy(update={"tuned": keys, "strategy_keys": own})
        return self.with_runs({name: configs[name] for name in self.points})

    def _parse(self, point: Mapping[str, Any], values: Candidate) -> Config:
        changed = copied(point)
        for key, value in values.items():
            lay(changed, key, value)
        return self.parser.parse(changed)

    def _group(self, name: str, axes: Mapping[str, str]) -> str:
        """Name the group of a run."""
        config, per = self.runs[name], self.tuning.per
        if per is None:
            return run_name(config, {key: text for key, text in axes.items() if key != "seed"})
        described = plain(config.describe(), importable)
        known = {"strategy": strategy_name(config), **{key: axes[key] for key in axes if key not in described}}
        return ", ".join(distinct_texts([known.get(key, look_up(described, key))])[0] for key in per) or "all runs"

    def _check_apart(self) -> None:
        """Raise if a key that is tuned is set otherwise, too, or no run has a key that is to tell runs apart."""
        if "validation" in self.description:
            raise ExperimentError("validation: the search holds samples out by itself; tune.share says how many")
        for key in self.tuning.values:
            for axes, point in self.points.values():
                if key in axes:
                    raise ExperimentError(f"tune.{key}: {key} is on an axis of the grid, too; allowed is one of both")
                if key in point.get("strategy_keys", ()):
                    raise ExperimentError(f"tune.{key}: a strategy or a case sets {key}, too; allowed is one of both")
            overlays = {
                **{f"the case {name}": case for name, case in (self.description.get("cases") or {}).items()},
                **{f"the axis {name}": axis for name, axis in (self.description.get("axes") or {}).items()},
            }
            for who, keys in overlays.items():
                if key in keys or look_up(keys, key) is not None:
                    raise ExperimentError(f"tune.{key}: {who} sets {key}, too; allowed is one of both")
        for key in self.tuning.per or ():
            described = (plain(config.describe(), importable) for config in self.runs.values())
            if "." in key and all(look_up(run, key) is None for run in described):
                raise ExperimentError(f"tune.per: got '{key}', a key that no run has; allowed are keys of the runs")


def search_seed(seed: int) -> int:
    """Derive the seed of a search, so that the final runs have fresh draws.

    Args:
        seed: The seed of the final runs.

    Returns:
        Another one.
    """
    return draws.key(seed, "tuning") % 2**31


def combined(values: Mapping[str, Sequence[Any]]) -> list[Candidate]:
    """Combine the values of several keys.

    Args:
        values: The values of each key.

    Returns:
        All combinations.
    """
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
