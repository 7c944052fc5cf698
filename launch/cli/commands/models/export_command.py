"""`basinet export`: write a trained model, the measurements of runs, or a film of a graph to a file."""

import argparse

from basinet.analysis.plots.network.graph_film import FILMS, film_graph
from basinet.launch.cli.output import DONE, say
from basinet.launch.exporting.logged_afterwards import log_again
from basinet.launch.exporting.tidy_frames import TABLES, write_table
from basinet.launch.progress_bar import how_many
from basinet.launch.results import export, files_of_all, load_one
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import each_run
from basinet.sim.setup.weights import SUFFIXES

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    out = options.out
    if out is None:
        raise ExperimentError("FILE: a file is needed, such as model.safetensors, metrics.parquet or graph.gif")
    if options.to is not None:
        say(f"{options.to}: {out} ({how_many(len(log_again(options.folder, [options.to], out)))})")
    elif out.suffix in TABLES:
        rows, columns = write_table(each_run(options.folder), out)
        say(f"measurements: {out} ({rows:,} rows, {columns} columns)")
    elif out.suffix in FILMS:
        _, run = load_one(options.folder)
        pictures = film_graph(run, out, colour=options.colour, replica=options.replica)
        say(f"film: {out} ({pictures} picture{'' if pictures == 1 else 's'})")
    elif out.suffix in SUFFIXES or options.transformers or out.is_dir():
        _write_model(options)
    else:
        raise ExperimentError(
            f"FILE: got {out}; allowed are files that end with {', '.join(SUFFIXES)} (models), {', '.join(TABLES)}"
            f" (measurements) or {', '.join(FILMS)} (films)"
        )
    return DONE


def _write_model(options: argparse.Namespace) -> None:
    """Write a trained model, or all of a run."""
    state = export(
        options.folder,
        options.out,
        options.replica,
        options.agent,
        merge=options.merge,
        transformers=options.transformers,
    )
    how = "; torch.load reads it with weights_only=True"
    if options.transformers:
        how = "; from_pretrained of transformers reads it"
    elif options.out.suffix == ".safetensors":
        how = ""
    if options.agent == "all":
        files = [*files_of_all(load_one(options.folder)[1], options.out).values()]
        say(f"models: {files[0]} to {files[-1].name} ({len(state)} tensors each{how.replace(' it', ' them')})")
    else:
        say(f"model: {options.out} ({len(state)} tensors{how})")
