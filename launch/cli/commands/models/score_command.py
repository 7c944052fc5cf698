"""`basinet score`: rate the images or videos of a folder by the model of a finished run."""

import argparse

from basinet.launch.cli.output import DONE, FAILED, say, write
from basinet.launch.finished.scoring_files import score
from basinet.launch.progress_bar import bar
from basinet.sim.experiment.component import ExperimentError

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    if options.out.is_dir():
        raise ExperimentError(f"--out: {options.out} is a folder; choose a file")
    kept = options.out.with_name(f"{options.out.name}.partial")
    try:
        with bar("scoring", quiet=options.quiet) as show:
            found = score(
                options.folder,
                options.model,
                mos=options.mos,
                pairs=options.pairs,
                replica=options.replica,
                agent=options.agent,
                keep=kept,
                show=show,
            )
    except KeyboardInterrupt:
        if kept.exists():
            say(f"scores so far: {kept}")
        raise
    found.write(options.out)
    kept.unlink(missing_ok=True)
    others = f"; other files left out: {found.left_out}" if found.left_out else ""
    say(f"scores: {options.out} ({found.noun}s: {len(found.scores)}{others})")
    if found.numbers is not None:
        for name, number in found.numbers.items():
            write(f"{name} {number:.4f}")
    elif options.mos is not None:
        say(f"no comparison with {options.mos}, since some of its {found.noun}s have no score")
    for why in found.failures.values():
        say(f"basinet: {why}")
    return FAILED if found.failures else DONE
