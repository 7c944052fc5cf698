"""`basinet list`: list what an experiment can name."""

import argparse
import json
from typing import Any

from basinet.launch.cli.output import DONE, say, write, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.listing import LISTED, describe_component, kinds_of, list_components
from basinet.sim.experiment.component import ExperimentError, nearest

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    if options.kind is not None and options.kind not in LISTED:
        name, having = options.kind, kinds_of(options.kind)
        if not having:
            raise ExperimentError(f"list: there is no kind '{name}'; {nearest(name, LISTED)}")
        commands = [f"basinet list {kind} {name}" for kind in having]
        if options.names or len(having) > 1:
            raise ExperimentError(
                f"list: '{name}' is no kind, but a name among {' and '.join(having)}; allowed: {', '.join(commands)}"
            )
        say(commands[0])
        _show_component(describe_component(having[0], name), options.json)
        return DONE
    kinds = [options.kind, *options.names] if options.kind else LISTED
    if not {*kinds} <= {*LISTED}:
        if len(options.names) > 1:
            raise ExperimentError(f"list: got {' '.join(kinds)}; allowed are kinds, or a kind and one name")
        _show_component(describe_component(options.kind, options.names[0]), options.json)
        return DONE
    found = list_components(kinds)
    if options.json:
        write_json(found)
        return DONE
    rows = [
        (kind, name, entry["about"] or "", entry["source"] or "")
        for kind, names in found.items()
        for name, entry in names.items()
    ]
    shown = slice(1 if len(kinds) == 1 else 0, None)  # a single kind is known
    write_table(("kind", "name", "what it is", "source")[shown], [row[shown] for row in rows])
    return DONE


def _show_component(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(entry)
        return
    paragraphs = [f"{entry['name']}: {entry['about']}", entry["description"]]
    paragraphs += [f"{word}: {entry[word]}" for word in ("formula", "source") if entry[word]]
    for paragraph in filter(None, paragraphs):
        write(f"{paragraph}\n", fold=True)
    rows = [
        (
            setting,
            known["type"] or "",
            "needed" if "needed" in known else json.dumps(known["default"]) if "default" in known else "",
            known["about"] or "",
        )
        for setting, known in entry["settings"].items()
    ]
    if rows:
        write_table(("setting", "values", "default", "what it is"), rows)
