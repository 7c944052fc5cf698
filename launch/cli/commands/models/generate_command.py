"""`basinet generate`: let the language model of a finished run continue a text."""

import argparse

from basinet.launch.cli.output import DONE, write
from basinet.launch.finished.generating import generate

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    begun = False

    def show(piece: str) -> None:
        nonlocal begun
        write(piece if begun else options.prompt + piece, end="")
        begun = True

    generate(
        options.folder,
        options.prompt,
        tokens=options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        replica=options.replica,
        agent=options.agent,
        show=show,
    )
    write("" if begun else options.prompt)
    return DONE
