"""The command line. Torch and Ray are imported by the commands that need them, so that `--help` is quick."""

import argparse
import atexit
import errno
import gc
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from basinet import __version__
from basinet.launch.terminal import console, give_up, messages, settle_streams

__all__ = ["main"]

BUILT_IN = Path(__file__).parent / "experiments"
KINDS = (
    "topologies",
    "policies",
    "strategies",
    "attacks",
    "optimizers",
    "schedules",
    "tunings",
    "tasks",
    "models",
    "partitions",
    "augmentations",
    "escapes",
    "measures",
)

_MOST_SHOWN = 200
"""Runs that a dry run shows; JSON holds all."""

_MOST_SENTENCES = 20
"""What is said of runs after a command; the report has all."""

DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Of several ranks that torchrun has started, the first one runs it with the help of the others, which print nothing.

    Args:
        arguments: Words of the command line; those of the process by default.

    Returns:
        Exit status, the same at all ranks: 0 done, 1 a run failed, 2 a mistake in what was asked, 130 interrupted.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)  # the process ends without a last search for garbage, half a second long
    settle_streams()
    try:
        status = _main(arguments)
    finally:
        ranks = sys.modules.get("basinet.sim.runtimes.torchrun")
        if ranks is not None and ranks.met():
            # torchrun ends what still runs as soon as one rank has exited with a status: each shall have its own.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if ranks is not None and ranks.follows():
        # Channels that are taken down with the interpreter may abort it, once the first rank is gone.
        ranks.leave()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _main(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options, later = parser.parse_known_args(arguments)
    if any(word.startswith("-") for word in later) or (later and "words" not in options):
        parser.error(f"unrecognized arguments: {' '.join(later)}")
    if later:  # argparse takes no further words once an option has come between them
        options.words += later
    try:
        status: int = options.command(options)
        _print()
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        return _end(error)
    return status


_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)
"""What is no mistake in what was asked, but a disk that takes no more."""


def _end(error: Exception) -> int:
    """Say in one sentence what went wrong, or raise a defect with its traceback; return the exit status."""
    from basinet.sim.experiment.mistakes import ExperimentError, first_line

    ranks = sys.modules.get("basinet.sim.runtimes.torchrun")
    follows = ranks is not None and ranks.follows()
    if (ranks is not None and ranks.failed()) or not isinstance(error, (ExperimentError, OSError)):
        if not follows:
            raise error
        _say(f"basinet: rank {os.environ['RANK']}: {error}")
        return FAILED
    if not (follows or ("TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0")):
        # Else the first rank says it.
        _say(f"basinet: {first_line(error)}")
    return FAILED if isinstance(error, OSError) and error.errno in _DISK else MISTAKE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="basinet",
        description="Train one model on a graph of agents; measure how flat the minima are that it finds.",
    )
    parser.add_argument("--version", action="version", version=f"basinet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, help: str, *, table: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=function)
        if table:
            sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
        return sub

    run = command("run", _run, "run an experiment, analyse it and write its report", table=True)
    run.add_argument(
        "words",
        nargs="*",
        metavar="EXPERIMENT.yaml | key=value",
        help="a file or the name of a built-in experiment (main, learning_rate); main if none is given",
    )
    run.add_argument("--out", type=Path, metavar="DIR", help="the experiment's folder (default runs/NAME)")
    run.add_argument("--fresh", action="store_true", help="discard what the folder holds")
    run.add_argument("--dry-run", action="store_true", help="check everything, show the runs, write nothing")
    run.add_argument("--quiet", action="store_true", help="show no progress")

    analyze = command("analyze", _analyze, "measure finished runs again, with other settings", table=True)
    analyze.add_argument("folder", type=Path, metavar="RUN", help="folder of a run or of an experiment")
    analyze.add_argument(
        "--only",
        metavar="MEASURES",
        help="comma-separated, such as hessian_trace; trajectory for the loss around the ways that runs recorded",
    )
    analyze.add_argument("--agents", action="store_true", help="measure each agent, too")
    analyze.add_argument("--own", action="store_true", help="measure under each agent's own samples, too")
    analyze.add_argument("--samples", type=int, metavar="N", help="take a fixed random subset of the training samples")
    analyze.add_argument("--mode", choices=("evaluation", "training"), help="mode of the model")
    analyze.add_argument("--between", action="store_true", help="measure the loss between the solutions of the runs")
    analyze.add_argument("--dtype", choices=("float32", "float64"), help="floating type")

    predict = command("predict", _predict, "what theory predicts of a finished run, beside what it did", table=True)
    predict.add_argument("folder", type=Path, metavar="RUN", help="folder of a run")
    predict.add_argument(
        "--at", choices=("minimum", "centroid"), default="minimum", help="where Hessian and noise are measured"
    )
    predict.add_argument("--replicas", type=int, metavar="N", help="look at the first N replicas (default all)")

    compare = command("compare", _compare, "print the runs of several experiments side by side", table=True)
    compare.add_argument("folders", nargs="+", type=Path, metavar="DIR")

    report = command("report", _report, "write the report of an experiment again")
    report.add_argument("folder", type=Path, metavar="DIR")

    export = command("export", _export, "write a trained model of a finished run to a file, as a state dict")
    export.add_argument("folder", type=Path, metavar="RUN", help="folder of a run")
    export.add_argument("--replica", type=int, default=0, metavar="R", help="whose model (default 0)")
    export.add_argument(
        "--agent", type=_point, default="centroid", metavar="K", help="an agent's number, or centroid (default)"
    )
    export.add_argument("--out", type=Path, required=True, metavar="FILE.pt", help="the file")

    reproduce = command(
        "reproduce", _reproduce, "measure a published claim anew; without a name, list them", table=True
    )
    reproduce.add_argument("name", nargs="?", metavar="NAME")
    reproduce.add_argument("words", nargs="*", metavar="key=value", help="settings of the study, such as scale=cifar10")
    reproduce.add_argument("--out", type=Path, metavar="DIR", help="where the findings go (default runs/NAME)")
    reproduce.add_argument("--fresh", action="store_true", help="discard the trainings that the folder holds")
    reproduce.add_argument("--quiet", action="store_true", help="show no progress")

    topology = command("topology", _topology, "show graphs: their weights, spectra and pictures", table=True)
    topology.add_argument(
        "words",
        nargs="+",
        metavar="NAME | key=value",
        help="topologies, and settings as below topology in an experiment: agents=16, policy=lazy, policy.keep=0.3, …",
    )
    topology.add_argument("--out", type=Path, metavar="FILE.png", help="where to draw it (default NAME.png)")

    launch = command("launch", _launch, "print a script that runs an experiment on several machines")
    launch.add_argument("runtime", choices=("ray", "torchrun", "slurm"), help="what starts the workers")
    launch.add_argument("words", nargs="*", metavar="EXPERIMENT.yaml | key=value", help="as for run")
    launch.add_argument("--out", type=Path, metavar="DIR", help="the experiment's folder, which all machines see")
    launch.add_argument("--nodes", type=_positive, default=1, metavar="N", help="machines (default 1)")
    launch.add_argument("--workers", type=_positive, metavar="N", help="workers a machine (default one a GPU, or 1)")
    launch.add_argument("--cpus", type=_positive, default=1, metavar="N", help="processors a worker (default 1)")
    launch.add_argument("--gpus", type=_positive, default=0, metavar="N", help="GPUs a machine (default none)")
    launch.add_argument("--time", default="01:00:00", help="limit of a job of Slurm (default 01:00:00)")

    listing = command("list", _list, "list what an experiment can name", table=True)
    listing.add_argument("kind", nargs="?", metavar="KIND", help=", ".join(KINDS))
    listing.add_argument("name", nargs="?", metavar="NAME", help="one of them: its settings, formula and source")
    return parser


@contextmanager
def _loading() -> Iterator[None]:
    """Load modules, a million objects that stay, without a search for garbage among them, now or later."""
    first = "torch" not in sys.modules
    if first:
        gc.disable()
    try:
        yield
    finally:
        if first:
            gc.enable()
            gc.freeze()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}; allowed are 1, 2, …")
    return int(text)


def _point(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _run(options: argparse.Namespace) -> int:
    file, overrides = _split(options.words)
    with _loading():
        from basinet.sim.experiment.component import ExperimentError
        from basinet.sim.experiment.experiment import Experiment

    experiment = Experiment.load(file, overrides)
    on_ranks = any(config.runtime.name == "torchrun" for config in experiment.runs.values())
    out = options.out or Path("runs") / file.stem
    if options.dry_run:
        return _dry_run(experiment, out, as_json=options.json, quiet=options.quiet)

    from basinet.analysis.statistics.summary import excuses, incidents
    from basinet.launch.api import run
    from basinet.sim.run.simulation import Interrupted, RunFailed
    from basinet.sim.runtimes.torchrun import follows, num_ranks

    if not on_ranks and num_ranks() > 1:
        raise ExperimentError(
            f"runtime.name: RANK and WORLD_SIZE say that {num_ranks()} ranks have been started, of which this"
            " experiment would leave all but one idle; give runtime.name=torchrun, or unset them"
        )
    status = DONE
    try:
        results = run(experiment, out=out, fresh=options.fresh, quiet=options.quiet)
    except RunFailed as error:
        results, status = error.results, FAILED
    except Interrupted:
        if follows():
            return INTERRUPTED
        place = ["--out", str(options.out)] if options.out else []
        again = shlex.join(["run", *options.words, *place])
        _say(f"interrupted; everything reached is in {out}. To go on: {_launcher() if on_ranks else 'basinet'} {again}")
        return INTERRUPTED
    if follows():
        return status
    runs = results.runs
    try:
        _print_summary(runs, options.json)
    except OSError as error:  # the experiment is done nevertheless
        _say(f"{error.filename}: {error.strerror}; the summary is in {out / 'summary.csv'}")
    _say_some((*excuses(results.impossible), *results.failures))
    # Of those that have failed more is said.
    _say_some(incidents([run for run in runs if run.status["state"] != "failed"]))
    if results.report.exists():
        _say(f"report: {results.report}")
    return status


def _dry_run(experiment: Any, out: Path, *, as_json: bool, quiet: bool) -> int:
    from basinet.analysis.runs.check_analysis import check_analysis
    from basinet.analysis.statistics.summary import excuses
    from basinet.launch.preview import preview
    from basinet.launch.progress_bar import checking, how_many
    from basinet.sim.run.simulation import build
    from basinet.sim.setup.room import check_disk

    with checking(len(experiment.runs), quiet=quiet) as progress:
        setups, impossible = build(experiment, check=check_analysis, progress=progress)
    check_disk(setups, out)
    configs = {name: setup.config.describe() for name, setup in setups.items()}
    if as_json:
        _print_json(configs)
    else:
        common, rows = preview(configs, _MOST_SHOWN)
        _print_table(("all runs", ""), common)
        _print_table(("run", "what it differs in"), rows)
    if len(configs) > _MOST_SHOWN and not as_json:
        _say(f"{len(configs) - _MOST_SHOWN:,} more runs; --json prints all")
    for sentence in excuses(impossible):
        _say(sentence)
    for loss in dict.fromkeys(setup.task.about_loss for setup in setups.values()):
        _say(f"loss: {loss}")
    _say(f"{how_many(len(configs))}, nothing written")
    return DONE


def _launcher() -> str:
    """Write how torchrun has started this process."""
    from basinet.launch.recipes import Machines, launcher
    from basinet.sim.runtimes.torchrun import num_ranks

    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    return launcher(Machines(nodes=nodes, workers=num_ranks() // nodes))


def _launch(options: argparse.Namespace) -> int:
    from basinet.launch.recipes import Machines, script

    file, overrides = _split(options.words)
    workers = options.workers or options.gpus or 1
    machines = Machines(options.nodes, workers, options.cpus, options.gpus, options.time)
    text = script(options.runtime, file, overrides, options.out or Path("runs") / file.stem, machines)
    _print(text.rstrip("\n"))
    return DONE


def _split(words: Sequence[str]) -> tuple[Path, list[str]]:
    """Split words into an experiment's file and what is laid over it."""
    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        from basinet.sim.experiment.component import ExperimentError

        raise ExperimentError(f"{files[1]}: one experiment at a time; overrides are written key=value")
    return _find_experiment(files[0] if files else "main"), [word for word in words if "=" in word]


def _find_experiment(name: str) -> Path:
    """Find a file of the user's, or a built-in experiment by its name."""
    built_in = BUILT_IN / f"{name}.yaml"
    return built_in if built_in.exists() and not Path(name).is_file() else Path(name)


_SHARED = ("analysis_samples", "analysis_mode", "analysis_dtype")


def _analyze(options: argparse.Namespace) -> int:
    from basinet.analysis.report.report import write_report
    from basinet.analysis.runs.measure_again import measure_again
    from basinet.analysis.runs.solution_barriers import measure_between
    from basinet.analysis.runs.trajectory_surface import measure_trajectories
    from basinet.analysis.statistics.summary import incidents
    from basinet.launch.progress_bar import bar
    from basinet.sim.experiment.experiment import override
    from basinet.sim.run.folder import load_runs
    from basinet.sim.runtimes.torchrun import follows, num_ranks, together

    only: list[Any] | None = None
    if options.only is not None:
        asked: dict[str, Any] = {}
        override(asked, [f"analysis=[{options.only}]"])
        only = asked["analysis"] or [""]
    paths = only is not None and "trajectory" in only
    if only is not None and paths:
        only = [word for word in only if word != "trajectory"] or None
    settings = {
        "analysis": only,
        "analysis_points": ["centroid", "agents"] if options.agents else None,
        "analysis_views": ["all", "own"] if options.own else None,
        "analysis_samples": options.samples,
        "analysis_mode": options.mode,
        "analysis_dtype": options.dtype,
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    again = only is not None or not (options.between or paths)
    for asked, option in ((options.agents, "--agents"), (options.own, "--own")):
        if asked and not again:
            from basinet.sim.experiment.component import ExperimentError

            raise ExperimentError(
                f"{option}: the loss on trajectories and between solutions is that of the centroids under all samples;"
                " leave it out, or name measures with --only"
            )
    # What the loss in planes and on paths is evaluated with, too.
    shared = {key: settings[key] for key in _SHARED if key in settings}

    def measure() -> list[float]:
        explained: list[float] = []
        with bar("analyze") as progress:
            if again:
                measure_again(options.folder, settings, progress)
            if paths:
                explained = measure_trajectories(options.folder, shared, progress).plane.explained.tolist()
            if options.between:
                measure_between(options.folder, shared, progress)
        return explained

    explained = together(measure) if num_ranks() > 1 else measure()
    if follows():
        return DONE
    if explained:
        first, second = (100 * part for part in explained)
        _say(f"trajectory: two principal directions hold {first:.1f} % and {second:.1f} % of the variance")
    folder = options.folder.parent if (options.folder.parent / "experiment.yaml").exists() else options.folder
    _say(f"report: {write_report(folder)}")
    runs = load_runs(options.folder)
    _print_summary(runs, options.json)
    _say_some(incidents(runs))
    return DONE


def _predict(options: argparse.Namespace) -> int:
    from basinet.analysis.theory.prediction import predict_run

    found = predict_run(options.folder, at=options.at, replicas=options.replicas)
    rows = found.rows()
    if options.json:
        _print_json(rows)
        return DONE
    texts = [["" if value is None else value if isinstance(value, str) else f"{value:.4g}" for value in row.values()]
             for row in rows]  # fmt: skip
    _print_table(("", "theory predicts", "measured", "standard error of the difference"), texts)
    _say(f"{len(found.replicas)} replicas; {found.method}; learning rate {found.lr:.4g}")
    for assumption in found.assumptions:
        _say(f"theory: {assumption}")
    return DONE


def _compare(options: argparse.Namespace) -> int:
    from basinet.sim.run.folder import load_runs

    _print_summary([run for folder in options.folders for run in load_runs(folder)], options.json)
    return DONE


def _report(options: argparse.Namespace) -> int:
    from basinet.analysis.report.report import write_report

    _say(f"report: {write_report(options.folder)}")
    return DONE


def _export(options: argparse.Namespace) -> int:
    from basinet.launch.api import export

    state = export(options.folder, options.out, options.replica, options.agent)
    _say(f"model: {options.out} ({len(state)} tensors; torch.load reads it with weights_only=True)")
    return DONE


def _reproduce(options: argparse.Namespace) -> int:
    if options.name is None:
        from basinet.analysis.studies import STUDIES
        from basinet.launch.listing import first_lines

        found = first_lines(STUDIES)
        if options.json:
            _print_json(found)
        else:
            _print_table(("study", "what it does"), list(found.items()))
        return DONE
    from basinet.sim.runtimes.torchrun import num_ranks, together

    if num_ranks() > 1 and any("torchrun" in word for word in options.words):
        return together(lambda: _study(options))
    return _study(options)


def _study(options: argparse.Namespace) -> int:
    """Carry out a study, print what it found, and return the exit status."""
    from basinet.launch.api import reproduce
    from basinet.sim.run.simulation import Interrupted, RunFailed

    out = options.out or Path("runs") / options.name
    try:
        findings, report = reproduce(options.name, options.words, out=out, fresh=options.fresh, quiet=options.quiet)
    except RunFailed as error:
        _say(str(error))
        return FAILED
    except (Interrupted, KeyboardInterrupt):
        place = ["--out", str(options.out)] if options.out else []
        again = shlex.join(["basinet", "reproduce", options.name, *options.words, *place])
        kept = f"the parts that are finished are in {out}" if out.exists() else "no part is finished yet"
        _say(f"interrupted; {kept}. To go on: {again}")
        return INTERRUPTED
    if options.json:
        _print_json([check.row() for check in findings.checks])
    else:
        headings = ("claim", "the theory predicts", "measured", "agrees if", "verdict")
        _print_table(headings, [check.cells() for check in findings.checks])
    _say(f"report: {report}")
    return DONE


def _topology(options: argparse.Namespace) -> int:
    from basinet.launch.show import show_topologies

    shown = show_topologies(options.words, options.out)
    facts = {label: found for label, (found, _) in shown.items()}
    if options.json:
        _print_json(facts if len(facts) > 1 else next(iter(facts.values())))
    else:
        keys = dict.fromkeys(key for found in facts.values() for key in found)
        rows = [
            [key.replace("_", " "), *(_in_words(f[key]) if key in f else "" for f in facts.values())] for key in keys
        ]
        _print_table(("", *facts), rows)
    for _, picture in shown.values():
        _say(f"picture: {picture}")
    return DONE


def _in_words(value: Any) -> str:
    if value is None:
        return "not found: it mixes too slowly"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _list(options: argparse.Namespace) -> int:
    from basinet.launch.listing import describe_component, list_components
    from basinet.sim.experiment.component import ExperimentError, nearest

    if options.kind is not None and options.kind not in KINDS:
        raise ExperimentError(f"list: there is no kind '{options.kind}'; {nearest(options.kind, KINDS)}")
    if options.name is not None:
        _show_component(describe_component(options.kind, options.name), options.json)
        return DONE
    found = list_components([options.kind] if options.kind else KINDS)
    if options.json:
        _print_json(found)
        return DONE
    rows = [
        (kind, name, entry["about"] or "", entry["source"] or "")
        for kind, names in found.items()
        for name, entry in names.items()
    ]
    shown = slice(1 if options.kind else 0, None)  # a single kind is known
    _print_table(("kind", "name", "what it is", "source")[shown], [row[shown] for row in rows])
    return DONE


def _show_component(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(entry)
        return
    paragraphs = [f"{entry['name']}: {entry['about']}", entry["description"]]
    paragraphs += [f"{word}: {entry[word]}" for word in ("formula", "source") if entry[word]]
    for paragraph in filter(None, paragraphs):
        _print(f"{paragraph}\n", fold=True)
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
        _print_table(("setting", "values", "default", "what it is"), rows)


def _print_summary(runs: Any, as_json: bool) -> None:
    from basinet.analysis.statistics.summary import summarize, summary_table

    if as_json:
        _print_json(summarize(runs))
    else:
        _print(summary_table(runs, _console().width))


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from basinet.analysis.statistics.columns import column_widths

    columns = [[title, *(row[i] for row in rows)] for i, title in enumerate(header)]
    for widths in column_widths(columns, _console().width, frame=3):
        table = Table(*(Column(Text(header[i]), width=width, overflow="fold") for i, width in widths.items()))
        for row in rows:
            table.add_row(*(Text(row[i]) for i in widths))
        _print(table)


def _print(*texts: Any, fold: bool = False) -> None:
    """Print on the standard output, and see to it that all of it has got there.

    Args:
        *texts: Lines, or what rich can draw.
        fold: Whether lines are folded to the terminal's width.

    Raises:
        OSError: It is full, or closed; nothing tries again.
    """
    try:
        for text in texts:
            if isinstance(text, str) and not fold:
                print(text)  # noqa: T201
            else:
                _console().print(text)
        sys.stdout.flush()
    except OSError as error:
        give_up(sys.stdout)
        error.filename = "standard output"
        raise


def _console() -> Any:
    # In a file or a pipe a table need not be folded to a terminal's width.
    return console(sys.stdout) if sys.stdout.isatty() else console(sys.stdout, width=120)


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=1, default=str))


def _say_some(sentences: Sequence[str]) -> None:
    for sentence in sentences[:_MOST_SENTENCES]:
        _say(sentence)
    if len(sentences) > _MOST_SENTENCES:
        _say(f"and {len(sentences) - _MOST_SENTENCES:,} more, which are in the report")


def _say(text: str) -> None:
    print(text, file=messages())


if __name__ == "__main__":
    sys.exit(main())
