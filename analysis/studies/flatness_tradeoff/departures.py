"""Claims about leaving a minimum: all strategies start where a centralised training ended."""

from pathlib import Path

import numpy as np
from torch import nn

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.plots.survival_curves import plot_survival, survival_rows
from basinet.analysis.statistics.survival import escape_times, kaplan_meier
from basinet.analysis.studies.flatness_tradeoff.claims import STRATEGIES, part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import PAIRED, Difference, larger
from basinet.analysis.studies.flatness_tradeoff.controls import control_checks
from basinet.analysis.studies.flatness_tradeoff.settings import Departure, Setting
from basinet.analysis.studies.flatness_tradeoff.trainings import Array, Outcomes, carry_out, log
from basinet.analysis.studies.study import Check, Progress
from basinet.sim.agents.state import load_vector
from basinet.sim.experiment.config import Config
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.setup.build import build_setup

__all__ = ["departure_claims", "rest_checks"]


def departure_claims(
    progress: Progress, folder: Path, setting: Setting, departure: Departure
) -> tuple[list[Check], list[Drawing]]:
    """Compare how strategies leave a minimum, and where they go.

    Args:
        progress: Called with the fraction done and a description.
        folder: The folder of the study.
        setting: The task and the model.
        departure: The start and the regimes.

    Returns:
        Checks and figures.
    """
    where, name = f"on {setting.name}, {departure.name}", _folder(departure)
    teacher = {**departure.keys, **departure.teacher.keys(), "schedule": setting.schedule, "replicas": 1}
    (taught,) = carry_out(
        folder,
        f"{name}_start",
        setting.describe(teacher | {"analysis": ["hessian_top_eigenvalue"]}, {"start": {}}, strategies=["centralized"]),
        part_of(progress, 0.0, 0.1),
    )
    start = _end(taught)
    cases = {f"batch {regime.batch}": regime for regime in departure.regimes}
    keys = {
        **departure.keys,
        "model": start,
        "escape": {"name": "risk_above", "level": departure.level, "every": departure.every},
        "analysis": ["hessian_top_eigenvalue", "consensus_sharpness"],
    }
    runs = carry_out(
        folder,
        name,
        setting.describe(keys, {case: r.keys() for case, r in cases.items()}, strategies=[*STRATEGIES.values()]),
        part_of(progress, 0.1, 0.6),
    )
    ends = Outcomes(runs)
    small, large = cases
    left = {(label, case): escape_times(ends.run(label, case)) for label in STRATEGIES for case in cases}
    checks = [
        larger(
            f"1: {fast} leaves a minimum sooner than {slow} ({where}, {large}; log ratio of exit steps; the last step "
            "for replicas that have not left)",
            log(left[slow, large][0]),
            log(left[fast, large][0]),
        )
        for slow, fast in (("centralized", "diffusion ATC"), ("diffusion ATC", "consensus"))
    ]

    def exits(label: str, case: str) -> Array:
        """Logarithms of the exit steps of the replicas that left."""
        steps, gone = left[label, case]
        return np.where(gone, log(steps), np.nan)

    taught_loss = Outcomes([taught]).get("train_loss", "centralized", "start")

    def risk(label: str, case: str) -> Array:
        """The agents' mean training loss minus that of the start."""
        return ends.get("train_loss", label, case) + ends.get("consensus_sharpness", label, case) - taught_loss

    for label in ("diffusion ATC", "consensus"):
        gains = [exits("centralized", case) - exits(label, case) for case in (large, small)]
        checks.append(
            larger(
                f"1b: how much sooner {label} leaves a minimum than centralized grows with batch and step ({where}, "
                f"{small} to {large}; log ratio of ratios of exit steps, for replicas that leave in all four)",
                *gains,
            )
        )
        # A difference, not a ratio: with small steps the loss of centralised training may fall below the start.
        excesses = [risk(label, case) - risk("centralized", case) for case in (large, small)]
        checks.append(
            larger(
                f"1b: from a minimum, how much the excess risk of {label} is above that of centralized grows with "
                f"batch and step ({where}, {small} to {large}; difference of differences)",
                *excesses,
            )
        )
    for number, more_label, less_label in (
        ("1", "diffusion ATC", "centralized"),
        ("3", "consensus", "diffusion ATC"),
    ):
        claim = f"{number}: from a minimum, {more_label} gets a larger excess risk than {less_label} ({where}, {large})"
        checks.append(larger(claim, risk(more_label, large), risk(less_label, large)))
    for flat, sharp in (("diffusion ATC", "centralized"), ("consensus", "diffusion ATC")):
        claim = f"2: from a minimum, {flat} gets flatter than {sharp} ({where}, {large}; log ratio of λ_max)"
        checks.append(larger(claim, ends.flatness(sharp, large), ends.flatness(flat, large)))
    if departure.factors:
        larger_batch = departure.regimes[1]
        steps = {f"step {f * larger_batch.lr:g}": larger_batch.keys(f) for f in departure.factors}
        description = setting.describe(keys, steps, strategies=["centralized"])
        central = Outcomes(carry_out(folder, f"{name}_steps", description, part_of(progress, 0.7, 0.15)))
        than = f"centralised training with other step sizes at the same training loss, from a minimum ({where}, {large}"
        checks += control_checks(ends, large, central, [*steps], than, ["flatness"])
    if departure.rest:
        checks += _cap(part_of(progress, 0.85, 0.15), folder, setting, departure, start, taught)
    curves = {label: kaplan_meier(*left[label, large]) for label in STRATEGIES}
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    plot_survival(curves, ax=ax)
    ax.set_xscale("symlog", linthresh=1)
    caption = (
        f"From one minimum of {setting.name}, {departure.name}, {large}: fraction of replicas whose training loss has "
        f"not yet risen by {departure.level:g} (Kaplan-Meier, pointwise 95 % intervals)."
    )
    title = f"Leaving a minimum: {setting.name}, {departure.name}"
    return checks, [Drawing(f"survival_{name}", title, caption, figure, survival_rows(curves))]


def _cap(
    progress: Progress, folder: Path, setting: Setting, departure: Departure, start: nn.Module, taught: Run
) -> list[Check]:
    """Compare λ_max where consensus and diffusion end with whole-shard gradients, from the same minimum."""
    assert departure.rest is not None
    keys = {
        **departure.keys, **departure.rest.keys(), "model": start, "task.partition": "iid", "sampling": "epochs",
        "analysis": ["hessian_top_eigenvalue", "stability_limit"], **departure.rest_keys,
    }  # fmt: skip
    runs = carry_out(
        folder,
        f"{_folder(departure)}_rest",
        setting.describe(keys, {"rest": {}}, strategies=["consensus", "diffusion"]),
        progress,
    )
    ends = Outcomes(runs)
    caps = ends.get("consensus_stability_limit", "consensus", "rest")
    return rest_checks(
        start=float(Outcomes([taught]).get("hessian_top_eigenvalue", "centralized", "start")[0]),
        cap=float(caps[np.isfinite(caps)].mean()) if np.isfinite(caps).any() else None,  # the same for all replicas
        consensus=ends.get("hessian_top_eigenvalue", "consensus", "rest"),
        diffusion=ends.get("hessian_top_eigenvalue", "diffusion ATC", "rest"),
        where=f"on {setting.name}, {departure.name}, whole shards",
    )


def rest_checks(*, start: float, cap: float | None, consensus: Array, diffusion: Array, where: str) -> list[Check]:
    """Check that consensus does not stay at a minimum that is too sharp for its graph.

    Args:
        start: λ_max of the minimum.
        cap: (1 + λ_min(W)) / μ; None if unknown, for example with momentum.
        consensus: λ_max where consensus ended, [R].
        diffusion: λ_max where diffusion ended, [R].
        where: Description of the training.

    Returns:
        Checks that consensus ends flatter than diffusion and below the cap; not tested unless the start is above it.
    """
    top = Difference(consensus, np.zeros(len(consensus)))
    below, limit = f"6, where it ends: λ_max of consensus is below (1 + λ_min(W)) / μ ({where})", 1.05
    rule = "the start is above it, and the 95 % interval reaches no more than 5 % above it"
    if cap is None or not start > cap:
        why = "no limit is known" if cap is None else f"the start has λ_max {start:.3g}, the limit is {cap:.3g}"
        leaves = (
            f"6: consensus cannot rest at a minimum above (1 + λ_min(W)) / μ, and ends flatter than diffusion ({where})"
        )
        return [
            Check(leaves, "above 0", f"nothing: {why}", f"the start is above it, and {PAIRED}", False, "not tested"),
            Check(below, cap or "a limit", f"{top}; {why}", rule, False, "not tested"),
        ]
    flatter = larger(
        f"6: consensus cannot rest at a minimum of λ_max {start:.3g}, above (1 + λ_min(W)) / μ = {cap:.3g}, and ends "
        f"flatter than diffusion ({where}; log ratio of λ_max)",
        log(diffusion),
        log(consensus),
    )
    agrees = top.high <= limit * cap
    otherwise = "too few pairs" if top.pairs < 2 else "disagrees" if top.low > limit * cap else "not shown"
    return [flatter, Check(below, cap, str(top), rule, agrees, otherwise)]


def _folder(departure: Departure) -> str:
    return "leaving_" + departure.name.replace(",", "").replace(" ", "_")


def _end(run: Run) -> nn.Module:
    """Read the final model of a centralised training of one replica."""
    saved = load_checkpoint(RunFolder(run.path).checkpoint)
    rows, model = saved["rows"], build_setup(Config.parse(run.config)).template()
    buffers = {name: b.double().mean(0).to(b.dtype) for name, b in rows["buffers"].items()}
    return load_vector(model, rows["parameters"][0], buffers)
