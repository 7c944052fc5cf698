"""`basinet predict`: what theory predicts of a finished run."""

import argparse

from basinet.analysis.theory.prediction import predict_run
from basinet.launch.cli.output import DONE, say, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.results import load_one

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    _, run = load_one(options.folder)
    found = predict_run(run.path, at=options.at, replicas=options.replicas)
    rows = found.rows()
    if options.json:
        write_json(rows)
        return DONE
    texts = [["" if value is None else value if isinstance(value, str) else f"{value:.4g}" for value in row.values()]
             for row in rows]  # fmt: skip
    write_table(("", "theory predicts", "measured", "standard error of the difference"), texts)
    count = len(found.replicas)
    say(f"{count} replica{'' if count == 1 else 's'}; {found.method}; learning rate {found.lr:.4g}")
    for assumption in found.assumptions:
        say(f"theory: {assumption}")
    return DONE
