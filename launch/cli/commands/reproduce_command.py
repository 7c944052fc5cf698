"""`basinet reproduce`: measure a published claim anew."""

import argparse
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from basinet.analysis.studies import STUDIES
from basinet.launch.cli.output import DONE, FAILED, INTERRUPTED, say, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.listing import first_lines
from basinet.launch.reproduce import reproduce, study_settings
from basinet.sim.run.simulation import Interrupted, RunFailed
from basinet.sim.runtimes.torchrun import together
from basinet.sim.runtimes.world import num_ranks

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    if options.name is None:
        found = first_lines(STUDIES)
        if options.json:
            write_json(found)
        else:
            rows = [(name, about, ", ".join(_settings(name))) for name, about in found.items()]
            write_table(("study", "what it does", "settings"), rows)
        return DONE

    return together(lambda: _study(options)) if num_ranks() > 1 else _study(options)


def _settings(name: str) -> Iterator[str]:
    """Yield the settings of a study with their defaults, and with their values if these are names."""
    for setting, known in study_settings(name).items():
        values = str(known["type"])
        if "default" in known:  # others stand for further settings
            default = json.dumps(known["default"]).strip('"')
            yield f"{setting}={default}" + (f" ({values})" if "|" in values and "null" not in values else "")


def _study(options: argparse.Namespace) -> int:
    """Carry out a study, print what it found, and return the exit status."""
    out = options.out or Path("runs") / options.name
    try:
        findings, report = reproduce(options.name, options.words, out=out, fresh=options.fresh, quiet=options.quiet)
    except RunFailed as error:
        say(str(error))
        return FAILED
    except (Interrupted, KeyboardInterrupt):
        place = ["--out", str(options.out)] if options.out else []
        again = shlex.join(["basinet", "reproduce", options.name, *options.words, *place])
        kept = f"the parts that are finished are in {out}" if out.exists() else "no part is finished yet"
        say(f"interrupted; {kept}. To go on: {again}")
        return INTERRUPTED
    if options.json:
        write_json([check.row() for check in findings.checks])
    else:
        headings = ("claim", "the theory predicts", "measured", "agrees if", "verdict")
        write_table(headings, [check.cells() for check in findings.checks])
    say(f"report: {report}")
    return DONE
