import csv
import dataclasses
import io
import math
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from basinet.analysis.compare.comparison import comparison_of
from basinet.analysis.compare.frame_reading import frame_of
from basinet.analysis.statistics.columns import column_widths, split_columns
from basinet.analysis.statistics.incidents import incidents
from basinet.analysis.statistics.paired import paired_differences
from basinet.analysis.statistics.ranking import leaders, ranking
from basinet.analysis.statistics.replica_values import finals, moments
from basinet.analysis.statistics.rounding import plus_minus
from basinet.analysis.statistics.run_labels import describe, labels, names, strategy_label, varied
from basinet.analysis.statistics.summary import summarize, write_csv, write_summary
from basinet.analysis.statistics.summary_table import cells
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.folder import Run

ATC, CTA = {"name": "diffusion", "order": "atc"}, {"name": "diffusion", "order": "cta"}
RNG = np.random.default_rng(3)
VALUES = {name: RNG.normal(0.9, 0.02, 5).tolist() for name in ("centralized", "consensus", "atc")}


def make(strategy="centralized", values=(), *, metric="test_accuracy", state="done", diverged=None, **config):
    strategy = {"name": strategy} if isinstance(strategy, str) else strategy
    config = {"strategy": strategy, "batch_size": 32, "steps": 100} | config
    rows = [
        {"step": step, "replica": replica, metric: value if step else 0.1}
        for step in (0, 100)
        for replica, value in enumerate(values)
    ]
    status = {"state": state, "step": 100, "steps": 100, "diverged": diverged or {}}
    return Run(strategy["name"], Path("runs/one") / strategy["name"], config, status, rows)


def test_a_case_stands_for_the_keys_that_it_sets():
    runs = [
        make(strategy, case=case, batch_size=size, optimizer={"name": "sgd", "lr": lr}, seed=seed)
        for strategy in ("centralized", "consensus")
        for case, size, lr in (("small batch", 2, 0.5), ("large batch", 16, 4.0))
        for seed in (0, 1)
    ]
    assert labels(runs)[0] == "centralized, small batch, seed=0"
    assert labels(runs)[-1] == "consensus, large batch, seed=1"


def named(**changes):
    """Name the runs of an experiment."""
    base = {"task": "digits", "topology": {"name": "ring", "agents": 4}, "steps": 5, "strategy": "diffusion"}
    runs = Experiment(base | changes).runs
    return names([Run(name, Path("runs/one") / name, config.describe(), {}, []) for name, config in runs.items()])


OWN = [{"name": "diffusion", "optimizer.lr": 0.4}, {"name": "consensus", "optimizer.lr": 0.2, "batch_size": 8}]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"strategy": [*OWN, "centralized"]}, [("diffusion ATC", ""), ("consensus", ""), ("centralized", "")]),
        (
            {"strategy": OWN, "seed": [0, 1]},
            [(s, f"seed={seed}") for s in ("diffusion ATC", "consensus") for seed in (0, 1)],
        ),
        (
            {"strategy": [*OWN, {"name": "diffusion", "optimizer.lr": 0.5}]},
            [("diffusion ATC, optimizer.lr=0.4", ""), ("consensus", ""), ("diffusion ATC, optimizer.lr=0.5", "")],
        ),
        (
            {"cases": {"a": {"strategy": "diffusion", "optimizer.lr": 0.4}, "b": {"strategy": "consensus"}}},
            [("diffusion ATC", ""), ("consensus", "")],
        ),
        (
            {"cases": {"a": {"strategy.order": "atc", "batch_size": 2}, "b": {"strategy.order": "cta"}}},
            [("diffusion ATC", ""), ("diffusion CTA", "")],
        ),
        (
            {
                "cases": {
                    f"{name} {size}": {"strategy": name, "batch_size": size}
                    for size in (2, 16)
                    for name in ("diffusion", "consensus")
                }
            },
            [(s, f"batch_size={size}") for size in (2, 16) for s in ("diffusion ATC", "consensus")],
        ),
        (
            {"cases": {"few": {"strategy": "diffusion", "batch_size": 2}, "many": {"strategy": "diffusion"}}},
            [("diffusion ATC", "few"), ("diffusion ATC", "many")],
        ),
        (
            {"cases": {"all": {}, "tuned": {"strategy": "extra", "optimizer.lr": 0.4}}, "strategy": ["isolated", "d2"]},
            [("isolated", ""), ("D²", ""), ("EXTRA", "")],
        ),
        (
            {"topology": [nx.Graph(nx.cycle_graph(4), name="my ring"), nx.path_graph(4), nx.star_graph(3)]},
            [("diffusion ATC", f"topology={name}") for name in ("my ring", "Graph 1", "Graph 2")],
        ),
    ],
)  # fmt: skip
def test_what_belongs_to_a_strategy_is_no_condition(changes, expected):
    assert named(**changes) == expected


def test_strategies_with_settings_of_their_own_are_compared():
    runs = [
        make("centralized", [1.0, 2.0], optimizer={"name": "sgd", "lr": 0.1}),
        make("consensus", [1.5, 2.6], optimizer={"name": "sgd", "lr": 0.4}, strategy_keys=["optimizer.lr"]),
    ]
    (found,) = paired_differences(runs, "test_accuracy")
    assert (found.condition, found.n) == ("", 2)


def shown(runs, width=100, most=None):
    console = Console(file=io.StringIO(), width=width)
    console.print(comparison_of(frame_of(runs)).table(most=most).terminal(width))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("strategy", "label"),
    [
        ({"name": "centralized"}, "centralized"),
        ({"name": "consensus"}, "consensus"),
        (ATC, "diffusion ATC"),
        (CTA, "diffusion CTA"),
        ({"name": "isolated"}, "isolated"),
        ({"name": "gradient_tracking"}, "gradient tracking"),
        ("isolated", "isolated"),
        ({"name": "gossip_pga", "period": 8}, "gossip PGA"),
        ({"name": "gradient_tracking", "order": "diging"}, "gradient tracking DIGing"),
    ],
)
def test_strategy_label(strategy, label):
    assert strategy_label({"strategy": strategy}) == label


def test_varied_finds_what_differs_within_a_component():
    ring, torus = {"name": "ring", "agents": 16}, {"name": "torus", "rows": 4}
    assert varied([make(topology=ring), make(topology=torus)]) == ["topology.name"]
    assert varied([make(topology=ring), make(topology=ring | {"agents": 8})]) == ["topology.agents"]
    assert varied([make(ATC), make(CTA)]) == ["strategy.order"]
    assert varied([make("consensus"), make(ATC)]) == ["strategy.name"]
    nested = [{"name": "digits", "partition": {"name": "dirichlet", "alpha": alpha}} for alpha in (0.1, 1.0)]
    assert varied([make(task=task) for task in nested]) == ["task.partition.alpha"]
    assert varied([make()]) == varied([]) == []


def test_varied_counts_a_setting_that_is_missing():
    assert varied([make(ATC), make(ATC | {"period": 4})]) == ["strategy.period"]
    assert varied([make(seed=1), make()]) == ["seed"]


def test_labels_name_the_strategy_and_the_other_keys():
    runs = [make(strategy, batch_size=size) for size in (32, 256) for strategy in ("centralized", ATC)]
    assert labels(runs)[0] == "centralized, batch_size=32"
    assert labels(runs)[3] == "diffusion ATC, batch_size=256"
    assert labels(runs[:2]) == ["centralized", "diffusion ATC"]
    periods = [make(ATC | {"period": period}, lr=0.1 * period) for period in (1, 4)]
    assert labels(periods) == ["diffusion ATC, period=1, lr=0.1", "diffusion ATC, period=4, lr=0.4"]
    rules = [make(ATC), *(make({"name": "robust", "rule": rule}) for rule in ("ios", "median"))]
    assert labels(rules) == ["diffusion ATC", "robust, rule=ios", "robust, rule=median"]


def test_labels_tell_equal_experiments_apart_by_folder():
    first, second = make(), make()
    object.__setattr__(second, "path", Path("runs/two/centralized"))
    assert labels([first, second]) == ["centralized, folder=runs/one", "centralized, folder=runs/two"]


def test_labels_leave_out_what_changes_no_result():
    runs = [make("centralized", replicas=3), make("consensus", replicas=5)]
    assert varied(runs) == ["strategy.name", "replicas"]
    assert labels(runs) == ["centralized", "consensus"]


def test_summary_agrees_with_numpy():
    values = VALUES["consensus"]
    (row,) = summarize([make("consensus", values, replicas=5)])
    assert row["test_accuracy_mean"] == pytest.approx(np.mean(values), rel=1e-14)
    assert row["test_accuracy_se"] == pytest.approx(np.std(values, ddof=1) / math.sqrt(5), rel=1e-12)
    assert (row["test_accuracy_n"], row["replicas"], row["diverged"]) == (5, 5, 0)


def test_summary_leaves_out_replicas_that_diverged_and_values_that_are_not_finite():
    values = [0.5, 0.6, 1e9, math.nan, None]
    run = make("consensus", values, diverged={"2": 70})
    (row,) = summarize([run])
    assert finals(run, "test_accuracy") == {0: 0.5, 1: 0.6}
    assert row["test_accuracy_mean"] == pytest.approx(0.55)
    assert (row["test_accuracy_n"], row["replicas"], row["diverged"]) == (2, 5, 1)


def test_rows_about_single_agents_are_not_summarized():
    run = make(values=[0.5, 0.7])
    run.metrics.append({"step": 100, "replica": 0, "agent": 3, "test_accuracy": 0.0, "hessian_trace": 1.0})
    (row,) = summarize([run])
    assert row["test_accuracy_mean"] == pytest.approx(0.6)
    assert "hessian_trace_mean" not in row


def test_a_single_replica_has_no_standard_error():
    assert moments([2.0]) == (2.0, None, 1)
    assert moments([]) == (None, None, 0)
    run = make(values=[0.75])
    assert summarize([run])[0]["test_accuracy_se"] is None
    text = shown([run])
    assert "0.75" in text
    assert "±" not in text.split("mean ±")[0]


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (0.96123, 0.00312, "0.9612 ± 0.0031"),
        (1234.5, 99.6, "1234 ± 100"),
        (0.000123, 0.0000456, "(1.23 ± 0.46)e-4"),
        (1.5e7, 2.5e6, "(1.50 ± 0.25)e7"),
        (0.0, 0.0, "0 ± 0"),
        (3.2, 2.961e-16, "3.2 ± 0"),
        (0.1, 1e-9, "0.1 ± 0"),
        (0.1, 5e-8, "0.1 ± 5e-08"),
        (0.0, 0.02, "0.000 ± 0.020"),
        (0.75, None, "0.75"),
        (None, None, "–"),
    ],
)
def test_plus_minus(mean, error, text):
    assert plus_minus(mean, error) == text


def test_summary_file(tmp_path):
    runs = [make("centralized", [0.5, 0.7]), make(ATC, [3.0], metric="hessian_trace", batch_size=8)]
    write_summary(runs, tmp_path / "summary.csv")
    with open(tmp_path / "summary.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["label"] == "centralized, batch_size=32"
    assert float(first["test_accuracy_mean"]) == pytest.approx(0.6)
    assert (first["batch_size"], second["batch_size"], second["strategy.name"]) == ("32", "8", "diffusion")
    assert second["test_accuracy_mean"] == second["hessian_trace_se"] == ""


def measured_everywhere(strategies, sizes):
    runs = []
    for size in sizes:
        for number, strategy in enumerate(strategies):
            run = make(strategy, [0.91234 - 1e-3 * size - 1e-2 * number, 0.92345], batch_size=size)
            for name in ("train_loss", "test_loss", "excess_risk", "hessian_trace", "hessian_top_eigenvalue"):
                run.metrics.extend({"step": 100, "replica": r, name: 1e-4 * (r + 1.234)} for r in (0, 1))
            runs.append(run)
    return runs


def test_table_fits_the_terminal():
    text = shown(measured_everywhere(("centralized", "consensus", ATC, CTA), (32, 256)))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert "↑" in text
    assert text.index("batch_size=32") < text.index("consensus") < text.index("batch_size=256")


@pytest.mark.parametrize("width", [48, 60, 80, 100, 140])
def test_no_number_and_no_line_is_broken_in_a_narrow_terminal(width):
    runs = measured_everywhere(("centralized", "a_strategy_with_a_long_name_of_its_own", ATC), (32, 256))
    text = shown(runs, width)
    assert max(map(len, text.splitlines())) <= width
    headings, rows = cells(runs)
    assert all(value in text for row in rows for value in row if "±" in value)
    assert all(word in text for heading in headings for word in heading.split() if word != "condition")


def test_of_many_runs_the_table_has_the_best_of_each_strategy():
    runs = measured_everywhere(("centralized", "consensus", ATC), range(1, 12))
    assert ranking(runs) == "test_accuracy"
    best = leaders(runs)
    assert [labels(runs)[place] for place in best] == [
        "centralized, batch_size=1",
        "consensus, batch_size=1",
        "diffusion ATC, batch_size=1",
    ]
    text = shown(runs, 140, most=30)
    assert text.count("batch_size=") == 1 and "batch_size=1\n" in text.replace(" ", "")
    assert "of 33 groups the best of each strategy by test accuracy; all: --format csv" in " ".join(text.split())
    few = shown(runs[:30], 140, most=30)
    assert few.count("batch_size=") == 10 and "the best of" not in few


def test_runs_are_ranked_by_what_is_better_and_last_where_nothing_is_known():
    runs = [
        make("consensus", [3.0, 4.0], metric="train_loss"),
        make("isolated", [], metric="train_loss"),
        make("centralized", [2.0, 3.0], metric="train_loss"),
        make("centralized", [1.0, 2.0], metric="train_loss", batch_size=8),
        make("extra", [0.1, 0.2], metric="train_loss", diverged={"0": 5, "1": 5}),
    ]
    assert ranking(runs) == "train_loss"
    assert leaders(runs) == [3, 0, 1, 4]
    assert ranking([make(values=[1.0], metric="gradient_norm")]) is None


def test_only_a_hessian_that_was_measured_is_explained():
    assert "Hessian" not in shown([make(values=[0.5, 0.6])])


@pytest.mark.parametrize("limit", [30, 50, 80, 200])
def test_tables_break_no_word_and_lose_no_column(limit):
    columns = [
        ["", "algebraic connectivity", "perron vector"],
        *([f"ring, agents={4**n}", f"{1 / 3**n:.6g}", "0.01562 to 0.01562"] for n in range(7)),
    ]
    tables = column_widths(columns, limit, frame=3)
    assert all(0 in widths and sum(widths.values()) + 3 * len(widths) < limit for widths in tables)
    assert sorted(i for widths in tables for i in widths if i) == list(range(1, 8))
    for widths in tables:
        for column, width in widths.items():
            assert max(len(word) for text in columns[column] for word in text.split()) <= width
            assert width <= max(map(len, columns[column]))
    if limit == 200:
        assert len(tables) == 1
    assert all(table[:2] == [0, 1] for table in split_columns([9] * 8, limit, names=2))


def test_table_of_runs_without_measurements():
    assert "consensus" in shown([make("consensus", [], replicas=2), make(values=[0.5, 0.6])])
    assert "0/2" in shown([make("consensus", [0.1, 0.2], diverged={"0": 5, "1": 5})])


def test_incidents():
    runs = [
        make("consensus", [0.5] * 5, diverged={"4": 340, "1": 120}),
        make("centralized", [0.5] * 5),
        make(ATC, [0.5] * 5, state="interrupted"),
    ]
    runs[2].status["step"] = 40
    assert incidents(runs) == [
        "consensus: 2 of 5 replicas diverged at step 120, 340.",
        "diffusion ATC: interrupted at step 40 of 100.",
    ]


def test_paired_interval_agrees_with_scipy():
    runs = [make("centralized", VALUES["centralized"]), make(ATC, VALUES["atc"])]
    (found,) = paired_differences(runs, "test_accuracy")
    differences = np.subtract(VALUES["atc"], VALUES["centralized"])
    error = stats.sem(differences)
    assert found.mean == pytest.approx(differences.mean())
    assert found.error == pytest.approx(error)
    assert found.n == 5
    assert found.interval == pytest.approx(stats.t.interval(0.95, 4, differences.mean(), error))
    test = stats.ttest_rel(VALUES["atc"], VALUES["centralized"])
    assert found.shown == (test.pvalue < 0.05)


def test_pairs_are_made_by_index_within_equal_other_keys():
    runs = [
        make("centralized", [1.0, 2.0, 3.0], batch_size=8),
        make("consensus", [1.5, 2.6, 3.7], batch_size=8, diverged={"2": 10}),
        make("centralized", [10.0, 20.0], batch_size=64),
        make("consensus", [11.0, 21.0], batch_size=64),
        make(ATC, [1.0, 1.0], batch_size=64, state="running"),
        make("isolated", [1.0], batch_size=512),
    ]
    first, second = paired_differences(runs, "test_accuracy")
    assert (first.condition, first.n, second.condition, second.n) == ("batch_size=8", 2, "batch_size=64", 2)
    assert first.mean == pytest.approx(0.55)
    assert second.mean == 1.0
    assert paired_differences(runs, "hessian_trace") == []


def test_verdicts_claim_no_more_than_the_interval():
    base = [0.5, 0.6, 0.7, 0.8]
    clear = make("consensus", [value + 0.1 + 0.001 * i for i, value in enumerate(base)])
    vague = make(ATC, [0.6, 0.5, 0.8, 0.7])
    first, second = paired_differences([make(values=base), clear, vague], "test_accuracy")
    assert first.cells()[:2] == ["consensus − centralized", "+0.10150 ± 0.00065"]
    assert first.cells()[3:] == ["4", "larger"]
    assert second.verdict == "no difference shown"


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_rounding_is_no_difference(scale):
    base = scale * np.arange(1.0, 5.0)
    runs = [make(values=base), make("consensus", base * (1 + 1e-6)), make(ATC, base * (1 + 1e-4))]
    same, other = paired_differences(runs, "test_accuracy")
    assert same.cells()[1:] == ["0 ± 0", "0 to 0", "4", "no difference shown"]
    assert other.verdict == "larger"


def test_a_single_pair_carries_no_interval():
    (found,) = paired_differences([make(values=[0.5]), make("consensus", [0.75])], "test_accuracy")
    assert (found.interval, found.error, found.shown) == (None, None, False)
    assert found.cells()[1:] == ["+0.25", "", "1", "a single pair has no interval"]


def test_needs_neither_torch_nor_matplotlib():
    code = "import sys, basinet.analysis.statistics.summary; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_grid_of_names_is_described_as_a_list():
    assert describe({"name": ["ring", "torus"], "agents": 4}) == "[ring, torus] (agents=4)"


def test_how_code_is_told_is_no_condition():
    told = {"name": "mine:Net", "width": 3, "code_digest": "0123456789abcdef-source"}
    assert describe(told) == "mine:Net (width=3)"
    old, new = (
        dataclasses.replace(make("diffusion", model=told | {"code_digest": code}), path=Path(folder) / "diffusion")
        for code, folder in (("1-source", "old"), ("2-source", "new"))
    )
    assert names([old, new]) == [("diffusion", f"folder={folder}") for folder in ("old", "new")]


def test_no_text_in_a_table_is_a_formula(tmp_path):
    formulas = ["=1+1", "+cmd", "-2+cmd|' /C calc'!A0", "@sum", "\t=1", "-inf"]
    texts = ["-", "'=1", "a=b", "-0.3 [-0.5, -0.1]", "-1", "1 ± 2", "", "−1"]
    rows = [{"=label": text, "value": -0.5, "nothing": None} for text in [*formulas, *texts]]
    write_csv(rows, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        header, *found = csv.reader(file)
    assert header == ["'=label", "value", "nothing"]
    assert {tuple(rest) for _, *rest in found} == {("-0.5", "")}
    assert [cell for cell, *_ in found] == [*(f"'{text}" for text in formulas), *texts]
    write_csv([{"a": "\r=1", "b": 2}], tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "a,b\n =1,2\n"
