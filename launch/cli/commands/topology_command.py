"""`basinet topology`: show graphs."""

import argparse
from typing import Any

from basinet.launch.cli.output import DONE, say, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.cli.show import show_topologies

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    shown = show_topologies(options.words, options.out)
    facts = {label: found for label, (found, _) in shown.items()}
    if options.json:
        write_json(facts if len(facts) > 1 else next(iter(facts.values())))
    else:
        keys = dict.fromkeys(key for found in facts.values() for key in found)
        rows = [
            [key.replace("_", " "), *(_in_words(f[key]) if key in f else "" for f in facts.values())] for key in keys
        ]
        write_table(("", *facts), rows)
    for _, picture in shown.values():
        say(f"picture: {picture}")
    return DONE


def _in_words(value: Any) -> str:
    if value is None:
        return "not found: it mixes too slowly"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
