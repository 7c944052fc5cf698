"""`basinet export`: write a trained model to a file."""

import argparse

from basinet.launch.cli.output import DONE, say
from basinet.launch.results import export

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    state = export(options.folder, options.out, options.replica, options.agent)
    say(f"model: {options.out} ({len(state)} tensors; torch.load reads it with weights_only=True)")
    return DONE
