"""`basinet report`: write the report of an experiment again."""

import argparse

from basinet.analysis.report.report import write_report
from basinet.launch.cli.output import DONE, say

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    say(f"report: {write_report(options.folder, svg=options.svg)}")
    return DONE
