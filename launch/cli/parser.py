"""Commands and options of the command line. Nothing heavy is imported, so that `--help` is quick."""

import argparse
import math
from pathlib import Path

from basinet import __version__
from basinet.launch.cli.built_in import BUILT_IN

__all__ = ["make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser.

    Returns:
        The parser; its result has the attribute `command`, the module `basinet.launch.cli.commands.…_command`.
    """
    parser = argparse.ArgumentParser(
        prog="basinet",
        description="Train one model on a graph of agents; measure how flat the minima are that it reaches.",
    )
    parser.add_argument("--version", action="version", version=f"basinet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help: str, *, table: bool = False, of: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=of + name)
        if table:
            sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
        return sub

    run = command("run", "run an experiment, analyse it and write its report", table=True)
    run.add_argument(
        "words",
        nargs="*",
        metavar="EXPERIMENT.yaml | key=value",
        help=f"a file or the name of a built-in experiment ({', '.join(BUILT_IN)}); main if none is given",
    )
    run.add_argument("--out", type=Path, metavar="DIR", help="the experiment's folder (default runs/NAME)")
    run.add_argument("--fresh", action="store_true", help="discard what the folder holds")
    run.add_argument(
        "--part", metavar="K/N", help="execute each N-th run from the K-th, beside jobs that execute the others"
    )
    run.add_argument(
        "--dry-run",
        action="store_const",
        dest="command",
        const="dry_run",
        help="check everything, show the runs, write nothing",
    )
    run.add_argument(
        "--explain",
        action="store_const",
        dest="command",
        const="explain",
        help="show which worker would host which agents, what travels between them, memory and threads; write nothing",
    )
    run.add_argument("--quiet", action="store_true", help="show no progress")

    analyze = command("analyze", "measure finished runs again, with other settings", table=True)
    analyze.add_argument("folder", type=Path, metavar="RUN", help="folder of a run or of an experiment")
    analyze.add_argument(
        "--only",
        metavar="MEASURES",
        help="comma-separated, such as hessian_trace; trajectory for the loss around recorded trajectories",
    )
    analyze.add_argument("--agents", action="store_true", help="measure each agent, too")
    analyze.add_argument("--own", action="store_true", help="measure under each agent's own samples, too")
    analyze.add_argument("--samples", type=int, metavar="N", help="take a fixed random subset of the training samples")
    analyze.add_argument("--mode", choices=("evaluation", "training"), help="mode of the model")
    analyze.add_argument("--between", action="store_true", help="measure the loss between the solutions of the runs")
    analyze.add_argument("--dtype", choices=("float32", "float64"), help="floating type")
    analyze.add_argument(
        "--products", choices=("exact", "differences"), help="products by autograd, or by differences of its gradients"
    )

    predict = command("predict", "what theory predicts of a finished run, beside what it did", table=True)
    predict.add_argument("folder", type=Path, metavar="RUN", help="folder of a run")
    predict.add_argument(
        "--at", choices=("minimum", "centroid"), default="minimum", help="where Hessian and noise are measured"
    )
    predict.add_argument("--replicas", type=int, metavar="N", help="use the first N replicas (default all)")

    timing = command("time", "simulated times of runs on other networks, without training", table=True)
    timing.add_argument("folder", type=Path, metavar="RUN", help="folder of a run or of an experiment")
    timing.add_argument(
        "words",
        nargs="*",
        metavar="key=value",
        help="keys below network and compute, in place of the run's, such as network.bandwidth=1Gb/s,10Gb/s",
    )
    timing.add_argument("--target", metavar="metric=value", help="time to reach this value, too")
    timing.add_argument(
        "--write", type=Path, metavar="DIR", help="write finished runs with these times as an experiment to compare"
    )
    timing.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="who computes, sends and waits when: a figure (.png, .pdf, .svg), or a trace for Perfetto (.json)",
    )
    timing.add_argument("--rounds", default="1:5", metavar="A:B", help="steps of the timeline, from 1 (default 1:5)")

    compare = command(
        "compare", "compare finished runs: means, tests, effort to a target, relations, figures", table=True
    )
    compare.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="folders of experiments or of single runs"
    )
    compare.add_argument(
        "--by",
        metavar="KEYS",
        help="comma-separated keys to compare (default strategy, or the only key or component in which runs differ)",
    )
    compare.add_argument(
        "--where", action="append", default=[], metavar="key=value", help="only runs with this value, or one of several"
    )
    compare.add_argument(
        "--metrics",
        "--columns",
        metavar="NAMES",
        help="comma-separated columns: metrics, bytes, spectral_gap, keys, ... (default the metrics of summaries)",
    )
    compare.add_argument(
        "--target", metavar="metric=value", help="effort to reach this value, in steps, samples and bytes"
    )
    compare.add_argument(
        "--y", metavar="METRIC", help="relate this metric to that of --x over replicas, instead of means"
    )
    compare.add_argument("--x", metavar="METRIC", help="such as hessian_trace")
    compare.add_argument(
        "--given", metavar="METRIC", help="a third metric beside --x (default excess_risk if measured)"
    )
    compare.add_argument(
        "--interval", choices=("error", "bootstrap"), default="error", help="standard errors or bootstrap intervals"
    )
    compare.add_argument(
        "--format", choices=("terminal", "csv", "latex", "markdown", "json"), help="default: as the suffix of FILE says"
    )
    compare.add_argument(
        "--out", type=Path, metavar="FILE", help="write a file, such as table.tex, instead of printing"
    )
    compare.add_argument(
        "--plot",
        metavar="KIND",
        help="write a figure to --out (.pdf, .svg, .png): flatness, risk, scatter, curves, trend, heatmap or parallel",
    )
    compare.add_argument(
        "--width",
        metavar="WIDTH",
        help="of the figure: column (3.3 in), page (6.9 in), or inches (default: for screens)",
    )

    report = command("report", "write the report of an experiment again")
    report.add_argument("folder", type=Path, metavar="DIR")
    report.add_argument(
        "--svg", action="store_true", help="draw figures as SVG, too, and show these; later reports do the same"
    )

    status = command(
        "status",
        "show which runs run, wait, are dead or done, their time left, and what their workers use; exit status: 0 all"
        " done, 1 some failed, 3 a process is at work, 4 some are dead or interrupted or have lost a rank, and go on by"
        " the command shown",
        table=True,
    )
    _add_folder_of_runs(status)
    status.add_argument("--all", action="store_true", help="of several experiments, list finished runs, too")
    status.add_argument(
        "--prometheus",
        type=Path,
        metavar="FILE",
        help="write the state of all runs for Prometheus, too, such as runs.prom",
    )

    serve = command("serve", "show runs on a local page, to watch and compare them while they run")
    _add_folder_of_runs(serve)
    serve.add_argument("--host", default="127.0.0.1", help="name or address to listen at (default 127.0.0.1)")
    serve.add_argument("--port", type=_port, default=8765, metavar="N", help="port; 0 for a free one (default 8765)")
    serve.add_argument("--open", action="store_true", help="open the page in a browser")

    export = command(
        "export", "write a trained model, the measurements of runs, or a film of a graph to a file", of="models."
    )
    export.add_argument("folder", type=Path, metavar="DIR", help="folder of a run; for measurements also of runs")
    export.add_argument(
        "out",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="a model: .safetensors or .pt; measurements: .parquet or .csv; a film: .gif or .mp4; with --to, a folder",
    )
    export.add_argument(
        "--to", metavar="LOGGER", help="let a logger receive the measurements: tensorboard, mlflow or wandb"
    )
    export.add_argument("--replica", type=int, default=0, metavar="R", help="number of the replica (default 0)")
    export.add_argument(
        "--agent",
        type=_point,
        default="centroid",
        metavar="K",
        help="an agent's number, centroid (default), or all: a file each",
    )
    export.add_argument(
        "--transformers", action="store_true", help="write a folder that from_pretrained of transformers reads"
    )
    export.add_argument("--merge", action="store_true", help="fold adapters into the layers")
    export.add_argument(
        "--colour",
        metavar="WHAT",
        help="of agents in a film: distance, disagreement, or a metric that was measured at agents, such as train_loss",
    )
    export.add_argument("--out", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the same as FILE")

    generate = command("generate", "let the language model of a finished run continue a text", of="models.")
    generate.add_argument("folder", type=Path, metavar="RUN", help="folder of a run")
    generate.add_argument("--prompt", default="", metavar="TEXT", help="the text (default: begin a new one)")
    generate.add_argument("--tokens", type=int, default=200, metavar="N", help="most tokens to generate (default 200)")
    generate.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="divides logits; 0: most probable (default 1)"
    )
    generate.add_argument("--top-k", type=int, metavar="N", help="choose among the N most probable tokens")
    generate.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="choose among those that reach this probability"
    )
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random numbers (default 0)")
    _add_point(generate)

    challenge = command(
        "challenge", "rank submissions, or finished runs, by the protocol of a challenge", table=True, of="models."
    )
    challenge.add_argument("name", metavar="CHALLENGE", help="super-resolution or video-quality")
    challenge.add_argument(
        "submissions",
        nargs="+",
        type=Path,
        metavar="SUBMISSION",
        help="a folder of images; a CSV file with the columns filename and score; or the folder of a finished run",
    )
    challenge.add_argument(
        "--truth",
        type=Path,
        metavar="PLACE",
        help="folder of the true images, or CSV file of the true scores (default: test data of the first run)",
    )
    challenge.add_argument(
        "--pairs", type=Path, metavar="FILE", help="pairs of videos, .xlsx (sheets nonsource and source) or .csv"
    )
    challenge.add_argument("--out", type=Path, metavar="DIR", help="where tables, figure and report go (default none)")
    challenge.add_argument("--quiet", action="store_true", help="show no progress")

    scoring = command("score", "rate the images or videos of a folder by the model of a finished run", of="models.")
    scoring.add_argument("folder", type=Path, metavar="DIR", help="folder of the images or videos")
    scoring.add_argument(
        "--model", type=Path, required=True, metavar="RUN", help="folder of a run that rates such files"
    )
    scoring.add_argument(
        "--out", type=Path, default=Path("scores.csv"), metavar="FILE", help="where to write (default scores.csv)"
    )
    scoring.add_argument("--mos", type=Path, metavar="FILE", help="their true scores (filename,score), to compare with")
    scoring.add_argument("--pairs", type=Path, metavar="FILE", help="pairs of these videos, for the rank accuracies")
    scoring.add_argument("--quiet", action="store_true", help="show no progress")
    _add_point(scoring)

    upscale = command("upscale", "enlarge images by the network of a finished run", of="models.")
    upscale.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, and folders of such")
    upscale.add_argument(
        "--model", type=Path, required=True, metavar="RUN", help="folder of a run, or a file that export wrote"
    )
    upscale.add_argument("--out", type=Path, metavar="DIR", help="where the results go (default: beside the images)")
    upscale.add_argument(
        "--self-ensemble", action="store_true", help="average over flips and rotations, which takes 8 times as long"
    )
    upscale.add_argument(
        "--tile", type=_positive, default=256, metavar="N", help="pixels of a tile's side (default 256)"
    )
    upscale.add_argument("--overlap", type=int, default=16, metavar="N", help="pixels seen around a tile (default 16)")
    upscale.add_argument("--device", default="cpu", help="where the network computes, such as cuda (default cpu)")
    _add_point(upscale)
    _add_afresh(upscale)

    shrink = command("shrink", "shrink images as the training data of super-resolution are made", of="models.")
    shrink.add_argument("folder", type=Path, metavar="DIR", help="folder of images")
    shrink.add_argument("out", type=Path, metavar="OUT", help="where the small images go: 0001.png becomes 0001x4.png")
    shrink.add_argument("--factor", type=_positive, default=4, metavar="N", help="by how much (default 4)")
    _add_afresh(shrink)

    reproduce = command("reproduce", "measure a published claim anew; without a name, list them", table=True)
    reproduce.add_argument("name", nargs="?", metavar="NAME")
    reproduce.add_argument("words", nargs="*", metavar="key=value", help="settings of the study, such as scale=cifar10")
    reproduce.add_argument("--out", type=Path, metavar="DIR", help="where the findings go (default runs/NAME)")
    reproduce.add_argument("--fresh", action="store_true", help="discard the trainings that the folder holds")
    reproduce.add_argument("--quiet", action="store_true", help="show no progress")

    topology = command("topology", "show graphs: their weights, spectra and pictures", table=True)
    topology.add_argument(
        "words",
        nargs="+",
        metavar="NAME | key=value",
        help="topologies, and settings as below topology in an experiment: agents=16, policy=lazy, policy.keep=0.3, …",
    )
    topology.add_argument("--out", type=Path, metavar="FILE.png", help="where to draw it (default NAME.png)")

    advising = command("advise", "rank graphs by the time that they need on a network", table=True)
    advising.add_argument("--agents", type=_positive, metavar="N", help="number of agents (default that of --run)")
    advising.add_argument("--model-size", metavar="SIZE", help="size of the parameters, such as 100MB")
    advising.add_argument(
        "--network",
        metavar="WHAT",
        help="a file or a name, then settings, or settings alone, such as 'bandwidth=10 Gb/s,latency=50 us'",
    )
    advising.add_argument(
        "--compute", metavar="LAW", help="compute times, such as 'lognormal,mean=20 ms,sigma=0.3' (default none)"
    )
    advising.add_argument("--max-degree", type=_positive, metavar="N", help="most neighbours of an agent in a step")
    advising.add_argument("--strategy", metavar="NAME", help="a strategy (default that of --run, or diffusion)")
    advising.add_argument(
        "--run", type=Path, metavar="RUN", help="a run that has what is not given: strategy, model, agents, network, …"
    )
    advising.add_argument(
        "--by",
        choices=("accuracy", "agreement", "round"),
        default="accuracy",
        help="rank by time to an accuracy of a quadratic (default), to agreement, or of a round",
    )
    advising.add_argument(
        "--accuracy", type=_fraction, default=0.001, metavar="E", help="loss to reach, relative to the start's (0.001)"
    )
    advising.add_argument(
        "--noise",
        type=_factor,
        metavar="V",
        help="variance of a gradient / its square at the start (default that of --run, or 10)",
    )
    advising.add_argument(
        "--heterogeneity",
        type=_factor,
        metavar="V",
        help="mean square of the agents' gradients at their minimum, likewise (default that of --run, or 1)",
    )
    advising.add_argument(
        "--agreement", type=_fraction, default=0.01, metavar="E", help="disagreement that is left (0.01)"
    )
    advising.add_argument("--plot", type=Path, metavar="FILE", help="draw what a step consists of (.png, .pdf, .svg)")
    advising.add_argument("--write", type=Path, metavar="DIR", help="write the graphs designed for the network here")

    launch = command("launch", "print a script that runs an experiment on several machines")
    launch.add_argument(
        "recipe", metavar="RECIPE", help="what starts the workers: ray, torchrun, slurm, ray-job or kuberay"
    )
    launch.add_argument("words", nargs="*", metavar="EXPERIMENT.yaml | key=value", help="as for run")
    launch.add_argument("--out", type=Path, metavar="DIR", help="the experiment's folder, which all machines see")
    launch.add_argument("--nodes", type=_positive, default=1, metavar="N", help="machines, of each kind (default 1)")
    launch.add_argument(
        "--workers", type=_positive, metavar="N", help="workers per machine (default one per GPU, or 1)"
    )
    launch.add_argument("--cpus", type=_positive, default=1, metavar="N", help="processors per worker (default 1)")
    launch.add_argument(
        "--gpus",
        metavar="[KIND:]N",
        help="GPUs per machine (default none), such as 4 or a100:4; a100:4,v100:2 for two kinds of machines",
    )
    launch.add_argument("--memory", metavar="SIZE", help="memory per machine, such as 64G (slurm, kuberay)")
    launch.add_argument("--time", metavar="HH:MM:SS", help="time limit (slurm, kuberay; default 01:00:00)")
    launch.add_argument("--array", type=_positive, metavar="N", help="deal the runs out to N jobs (slurm)")
    launch.add_argument(
        "--requeue",
        type=_count,
        metavar="N",
        help="queue the job again when its time is over, at most N times (slurm; default 20)",
    )
    launch.add_argument(
        "--slurm", action="append", metavar="KEY=VALUE", help="a further option of sbatch, such as partition=gpu"
    )
    launch.add_argument("--image", metavar="IMAGE", help="the image of containers with basinet and ray (kuberay)")
    launch.add_argument("--volume", metavar="CLAIM:PATH", help="a volume for results, seen at PATH (kuberay)")

    listing = command("list", "list what an experiment can name", table=True)
    kind = "such as optimizers, measures (default all); or a name that only one kind has"
    listing.add_argument("kind", nargs="?", metavar="KIND", help=kind)
    listing.add_argument(
        "names", nargs="*", metavar="NAME", help="one of them: its settings, formula and source; or further kinds"
    )
    return parser


def _add_folder_of_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of experiments, of one, or of a run (default runs)",
    )


def _add_point(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replica", type=int, default=0, metavar="R", help="number of the replica (default 0)")
    parser.add_argument(
        "--agent", type=_point, default="centroid", metavar="K", help="an agent's number, or centroid (default)"
    )


def _add_afresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fresh", action="store_true", help="make images anew that are there already")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}; allowed are 1, 2, …")
    return int(text)


def _fraction(text: str) -> float:
    return _number(text, below=1.0, above=0.0)


def _factor(text: str) -> float:
    return _number(text, below=math.inf)


def _number(text: str, *, below: float, above: float = -math.ulp(0.0)) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not above < value < below:
        allowed = "numbers between 0 and 1" if below == 1 else "0 and positive numbers"
        raise argparse.ArgumentTypeError(f"got {text}; allowed are {allowed}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text}; allowed are 0, 1, 2, …")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"got {text}; allowed are 0 to 65535")
    return int(text)


def _point(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
