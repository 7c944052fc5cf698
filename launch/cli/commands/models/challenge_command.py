"""`basinet challenge`: rank submissions, or finished runs, by the protocol of a challenge."""

import argparse

from basinet.launch.cli.output import DONE, FAILED, say, write, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.finished.challenging import challenge
from basinet.launch.progress_bar import bar

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    given = {"truth": options.truth, "pairs": options.pairs, "out": options.out}
    with bar("scoring", quiet=options.quiet) as show:
        board = challenge(options.name, *options.submissions, **given, show=show)
    if options.json:
        write_json(board.as_json())
    else:
        write_table(*board.cells())
        write(*board.how(), fold=True)
        published = board.challenge.published
        write("", published.about, fold=True)
        if published.rows:
            write_table(published.columns, published.rows)
    for name, sentences in board.refused.items():
        for sentence in sentences:
            say(f"{name} is refused: {sentence}")
    if options.out:
        say(f"report: {options.out / 'report.html'}")
    return FAILED if board.refused else DONE
