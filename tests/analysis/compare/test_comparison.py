import csv
import io
import json

import numpy as np
import pytest
from scipy import stats

from basinet import compare
from basinet.analysis.compare.significance import best_of_each, differences
from basinet.analysis.compare.tables_of_text import Cell, TextTable
from basinet.analysis.statistics.multiple_tests import holm
from basinet.launch.cli.entry import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.files import read_json, sealed_json
from tests.planted_runs import write_record, write_run

RNG = np.random.default_rng(5)
NOISE = RNG.normal(0, 0.02, 6)
BASE = 0.8 + NOISE
PLANTED = {
    "diffusion": (BASE + 0.01 + RNG.normal(0, 0.001, 6)).tolist(),  # better by pairs only
    "consensus": BASE.tolist(),
    "isolated": (BASE - 0.1 + RNG.normal(0, 0.02, 6)).tolist(),
}


def planted(folder, **changes):
    for name, values in PLANTED.items():
        finals = {"test_accuracy": values, "hessian_trace": [3.0] * 6}
        write_run(folder, name, finals, strategy=changes.get(name, name))
    return write_record(folder, list(PLANTED))


def keyed(values):
    return {(0, replica): value for replica, value in enumerate(values)}


def test_tests_are_those_of_scipy():
    one, other, third = PLANTED.values()
    apart = {(1, replica): value for replica, value in enumerate(other[:4])}
    found = differences(
        [
            (keyed(one), keyed(other)),
            (keyed(one), apart),
            (keyed([0.1, 0.2]), keyed([0.1 + 1e-9, 0.2])),
            (keyed(one), keyed(third)),
            (keyed([1.0, 1.0]), keyed([2.0, 2.0])),
            (keyed([1.0, 1.0]), {(5, 0): 1.0, (5, 1): 1.0}),
            (keyed([1.0] * 6), keyed([2.0] * 6)),
            *((keyed([1.0] * n), {(5, r): 2.0 for r in range(m)}) for n, m in ((3, 3), (2, 4))),
            (apart, keyed(third)),
            (keyed(one[:5]), keyed(third)),
            (keyed([1.0]), keyed([2.0])),
        ]
    )
    wanted = [
        (stats.ttest_rel(one, other).pvalue, True),
        (stats.ttest_ind(one, other[:4], equal_var=False).pvalue, False),
        (1.0, True),
        (stats.ttest_rel(one, third).pvalue, True),
        (0.5, True),  # no spread, by coincidence of two
        (1.0, False),
        (stats.binomtest(6, 6).pvalue, True),
        *(
            (stats.permutation_test(([1.0] * n, [2.0] * m), lambda a, b: np.mean(a) - np.mean(b)).pvalue, False)
            for n, m in ((3, 3), (2, 4))
        ),
        (stats.ttest_ind(other[:4], third, equal_var=False).pvalue, False),
        (stats.ttest_rel(one[:5], third[:5]).pvalue, True),
        (np.nan, False),
    ]
    assert [paired for _, paired in found] == [paired for _, paired in wanted]
    assert [p for p, _ in found] == pytest.approx([p for p, _ in wanted], nan_ok=True)


def test_the_best_is_marked_if_it_is_better_than_the_next():
    values = [keyed(PLANTED[name]) for name in ("isolated", "diffusion", "consensus")]
    rank, p, best = best_of_each(["", "", ""], values, "larger")
    assert rank == [3.0, 1.0, 2.0] and best == [False, True, False] and np.isnan(p[1])
    # against the others, and not by pairs, it would not be told from the next
    unpaired = [values[0], values[1], {(9, r): value for (_, r), value in values[2].items()}]
    assert best_of_each(["", "", ""], unpaired, "larger")[2] == [False, False, False]
    assert best_of_each(["", "", ""], values, None)[2] == [False, False, False]


def apart(t, spread=1.0):
    """Return paired differences from zero with this t-statistic."""
    unit = stats.zscore([1.0, 2.0, 4.0, 8.0, 5.0, 3.0], ddof=1)
    return keyed((spread * (unit + t / 6**0.5)).tolist())


def test_all_tests_of_a_column_are_corrected_together():
    zero, clear, close, unclear = keyed([0.0] * 6), apart(-9), apart(-3), apart(-0.2, spread=20)
    p = best_of_each(["", ""], [zero, close], "larger")[1][1]
    assert 0.025 < p < 0.05 and holm([p, 0.5]).tolist() == [False, False]
    for conditions, groups, bold in (
        ("aa", [zero, close], [True, False]),
        ("aaa", [zero, close, clear], [True, False, False]),  # first the clear one, then 5 % are left
        ("aaa", [zero, close, unclear], [False] * 3),  # not at 2.5 %, though the third is not the next
        ("aabb", [zero, close, zero, close], [False] * 4),
        ("aabb", [zero, close, zero, clear], [True, False, True, False]),
    ):
        assert best_of_each(list(conditions), groups, "larger")[2] == bold
    assert best_of_each(["a", "a"], [{}, zero], "smaller")[0] == pytest.approx([np.nan, 1.0], nan_ok=True)


@pytest.mark.parametrize(("shared", "paired"), [(2, False), (3, True)])
def test_pairs_are_of_at_least_half_of_the_replicas(shared, paired):
    one = keyed([0.1, 0.2, 0.4, 0.3, 0.6, 0.5])
    other = {(0 if replica < shared else 9, replica): value + 0.1 * replica for (_, replica), value in one.items()}
    assert differences([(one, other)])[0][1] is paired


def test_means_errors_ranks_and_intervals(tmp_path):
    found = compare(planted(tmp_path))
    rows = {row["strategy"]: row for row in found.rows()}
    for name, values in PLANTED.items():
        assert rows[name]["test_accuracy_mean"] == pytest.approx(np.mean(values))
        assert rows[name]["test_accuracy_se"] == pytest.approx(stats.sem(values))
        # the percentile bootstrap of a mean, by scipy
        wanted = stats.bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval
        ends = [rows[name]["test_accuracy_lower"], rows[name]["test_accuracy_upper"]]
        assert ends == pytest.approx(wanted, abs=stats.sem(values) / 5)
    assert [rows[name]["test_accuracy_rank"] for name in PLANTED] == [1, 2, 3]
    assert [rows[name]["test_accuracy_best"] for name in PLANTED] == [True, False, False]
    assert [rows[name]["hessian_trace_best"] for name in PLANTED] == [False] * 3
    assert [rows[name]["hessian_trace_rank"] for name in PLANTED] == [2.0] * 3
    assert found.notes == found.left_out == ()
    assert "<b>" in found._repr_html_()


def test_runs_that_differ_in_more_are_not_averaged(tmp_path):
    for size in (2, 16):
        for seed in (0, 1):
            for strategy in ("diffusion", "consensus"):
                finals = {"test_accuracy": [size / 100 + 0.01 * seed, 0.5]}
                write_run(tmp_path, f"{strategy}{size}{seed}", finals, strategy=strategy, batch_size=size, seed=seed)
    folders = sorted(tmp_path.iterdir())
    found = compare(*folders)
    assert [(g.label, g.condition, len(g.rows)) for g in found.groups] == [
        (strategy, f"batch_size={size}", 4) for size in (16, 2) for strategy in ("consensus", "diffusion")
    ]
    (note,) = found.notes
    assert "batch_size (16, 2)" in note and "--by strategy,batch_size" in note
    assert len(compare(*folders, where="batch_size=2").groups) == 2
    by_size = compare(*folders, by=["batch_size"], where="strategy=diffusion")
    assert [group.values for group in by_size.groups] == [(2,), (16,)] and not by_size.notes
    assert [group.condition for group in compare(*folders, by="seed").groups][::2] != ["", ""]


def test_of_the_runtime_only_what_changes_numbers_is_a_condition(tmp_path):
    for seed, (name, dtype) in enumerate((("inline", "float32"), ("ray", "float32"), ("inline", "float64"))):
        runtime = {"name": name, "dtype": dtype}
        write_run(tmp_path, f"{seed}", {"test_accuracy": [0.5, 0.6]}, runtime=runtime, seed=seed)
    found = compare(*sorted(tmp_path.iterdir()), by="strategy")
    assert [(group.condition, len(group.rows)) for group in found.groups] == [
        ("runtime.dtype=float32", 4),
        ("runtime.dtype=float64", 2),
    ]


def test_keys_that_change_together_are_all_named_and_one_is_shown(tmp_path):
    for strategy in ("diffusion", "consensus"):
        for size, lr, noise in ((2, 0.1, 0.0), (16, 0.8, 0.3)):
            more = {"task": {"name": "digits", **({"label_noise": noise} if noise else {})}}
            name = f"{strategy}{size}"
            write_run(
                tmp_path,
                name,
                {"test_accuracy": [0.5, 0.6]},
                strategy=strategy,
                batch_size=size,
                optimizer__lr=lr,
                **more,
            )
    folders = sorted(tmp_path.iterdir(), reverse=True)
    found = compare(*folders)
    assert [group.condition for group in found.groups] == ["optimizer.lr=0.1"] * 2 + ["optimizer.lr=0.8"] * 2
    (note,) = found.notes
    assert all(
        text in note for text in ("optimizer.lr (0.1, 0.8)", "batch_size (2, 16)", "task.label_noise (none, 0.3)")
    )
    assert compare(*folders, where="strategy=diffusion").by == ("strategy",)


def test_what_belongs_to_a_strategy_or_a_case_is_no_condition(tmp_path):
    for name, case, lr, size in (
        ("diffusion", "few", 0.4, 2),
        ("consensus", "few", 0.2, 2),
        ("diffusion", "many", 0.4, 16),
    ):
        own = {"case": case, "optimizer__lr": lr, "batch_size": size, "strategy_keys": ["optimizer.lr"]}
        write_run(tmp_path, f"{name}-{case}", {"test_accuracy": [0.5, 0.6]}, strategy=name, **own)
    found = compare(*sorted(tmp_path.iterdir()))
    assert [(g.label, g.condition) for g in found.groups] == [
        ("consensus", "few"),
        ("diffusion", "few"),
        ("diffusion", "many"),
    ]
    by_size = compare(*sorted(tmp_path.iterdir()), by="batch_size", where="strategy=diffusion")
    assert [(g.label, g.condition) for g in by_size.groups] == [("2", ""), ("16", "")]


def test_settings_of_a_compared_component_are_named_with_it(tmp_path):
    models = {
        "small": {"name": "mlp", "hidden": [6]},
        "large": {"name": "mlp", "hidden": [32, 8]},
        "c": {"name": "cnn"},
    }
    for strategy in ("diffusion", "consensus"):
        for name, model in models.items():
            write_run(tmp_path, f"{name}-{strategy}", {"test_accuracy": [0.5, 0.6]}, strategy=strategy, model=model)
    runs = sorted(tmp_path.iterdir())
    found = compare(*runs, by="model")
    assert {group.condition for group in found.groups} == {"strategy=consensus", "strategy=diffusion"}
    assert {group.label for group in found.groups} == {"cnn", "mlp, hidden=[6]", "mlp, hidden=[32, 8]"}
    alone = compare(*runs, where="strategy=diffusion")  # no other key differs
    assert alone.by == ("model",) and {group.condition for group in alone.groups} == {""}
    # likewise if all are of one kind; what all kinds have stays a condition
    assert {g.label for g in compare(*runs, by="model", where="model=mlp").groups} == {
        "mlp, hidden=[6]",
        "mlp, hidden=[32, 8]",
    }
    for agents in (4, 8):
        for name in ("ring", "complete"):
            graph = {"name": name, "agents": agents, "policy": {"name": "metropolis"}}
            write_run(tmp_path / "graphs", f"{name}{agents}", {"test_accuracy": [0.5, 0.6]}, topology=graph)
    found = compare(*(tmp_path / "graphs").iterdir(), by="topology")
    assert {(g.label, g.condition) for g in found.groups} == {
        (name, f"topology.agents={agents}") for name in ("ring", "complete") for agents in (4, 8)
    }


def test_columns_are_whatever_runs_have(tmp_path):
    for size in (2, 16):
        for lr in (0.1, 0.4):
            name = f"{size}-{lr}"
            write_run(tmp_path, name, {"test_accuracy": [0.5, 0.6]}, batch_size=size, optimizer__lr=lr, strategy="d2")
    names = ["optimizer.lr", "test_accuracy", "bytes", "spectral_gap", "topology", "test_accuracy"]
    found = compare(*sorted(tmp_path.iterdir()), by="batch_size", where="optimizer.lr=0.4", metrics=names)
    head, _, *lines = found.table().markdown().splitlines()
    titles = "batch\\_size | replicas | optimizer.lr | test accuracy ↑ | rank | bytes | spectral gap | topology"
    assert head == f"| {titles} |"
    # what is the same in all replicas, and neither better nor worse, has no error
    assert lines[0] == "| 2 | 2/2 | 0.4 | 0.550 ± 0.050 | 1.5 | 1000 | 0.6667 | ring |"
    row = found.rows()[0]
    assert (row["optimizer.lr"], row["topology"], row["bytes_mean"]) == ("0.4", "ring", 1000)
    # of several values in a group all are listed
    both = compare(*sorted(tmp_path.iterdir()), by="strategy", where="batch_size=2", metrics=["seed", "run"])
    assert both.rows()[0]["seed"] == "0" and both.rows()[0]["run"].endswith("2-0.1")


def test_without_keys_runs_are_compared_by_the_only_one_that_differs(tmp_path):
    for size in (16, 2.0, 2):  # the last two are the same
        for seed in (0, 1):
            name = f"{size}-{seed}"
            write_run(
                tmp_path, name, {"test_accuracy": [0.5, 0.6]}, batch_size=size, seed=seed + 10 * isinstance(size, float)
            )
    found = compare(*sorted(tmp_path.iterdir()))
    assert found.by == ("batch_size",) and [len(group.rows) for group in found.groups] == [8, 4] and not found.notes
    write_run(tmp_path, "more", {"test_accuracy": [0.5, 0.6]}, optimizer__lr=0.9, seed=7)
    assert compare(*sorted(tmp_path.iterdir())).by == ("strategy",)


def test_trivial_baselines_are_below_their_condition(tmp_path):
    for name in ("diffusion", "consensus"):
        run = write_run(tmp_path, name, {"test_accuracy": [0.5, 0.6]}, strategy=name)
        status = read_json(run / "status.json") | {"baselines": {"majority class": {"test_accuracy": 0.125}}}
        (run / "status.json").write_text(sealed_json(status))
    text = compare(*tmp_path.iterdir()).table().markdown()
    assert text.count("majority class (baseline)") == 1 and "0.125" in text
    # those of all conditions have one row, too, and those of some are below theirs
    for size, value in ((16, 0.125), (32, 0.125)):
        run = write_run(tmp_path, f"{size}", {"test_accuracy": [0.5, 0.6]}, batch_size=size)
        own = {"median": {"test_accuracy": size / 64}, "majority class": {"test_accuracy": value}}
        (run / "status.json").write_text(sealed_json(read_json(run / "status.json") | {"baselines": own}))
    lines = compare(*tmp_path.iterdir()).table().markdown().splitlines()
    said = [line.split(" | ") for line in lines if "baseline" in line]
    assert sorted((row[0], row[1]) for row in said) == [
        ("| all conditions", "majority class (baseline)"),
        (r"| batch\_size=16", "median (baseline)"),
        (r"| batch\_size=32", "median (baseline)"),
    ]


def test_powers_and_letters_in_latex():
    table = TextTable(
        ["a_b", "λ ↓"], {"": [[Cell("50 % & #1"), Cell("(1.23 ± 0.46)e-4", True)], [Cell("x"), Cell("1e+05")]]}
    )
    text = table.latex()
    assert r"50 \% \& \#1 & \textbf{(1.23 $\pm$ 0.46)$\,\times 10^{-4}$} \\" in text
    assert r"x & 1$\,\times 10^{5}$ \\" in text and r"a\_b & $\lambda$ $\downarrow$ \\" in text
    assert r"Hessian $\lambda_{\max}$ $\downarrow$ \\" in TextTable(["Hessian λ_max ↓"], {}).latex()
    # brackets and asterisks at the beginning of a row would belong to the end of the row before
    odd = TextTable(["[a]"], {"": [[Cell("[6]")], [Cell("*")]]}).latex()
    assert "{}[a] \\\\" in odd and "{}[6] \\\\" in odd and "{}* \\\\" in odd
    assert "<td><b>(1.23" in table.html() and "50 % &amp; #1" in table.html()


def test_everything_odd_is_named_and_the_rest_compared(tmp_path, capsys):
    write_run(tmp_path, "whole", {"test_accuracy": [0.7, 0.8]})
    write_run(tmp_path, "lost", {"test_accuracy": [0.7, 0.8, 0.9]}, strategy="consensus", diverged={1: 40})
    write_run(tmp_path, "going", {"test_accuracy": [0.1]}, state="running", step=40)
    write_run(tmp_path, "alone", {"hessian_trace": [2.0]}, strategy="isolated")
    write_run(tmp_path, "other", {"test_accuracy": [0.7, 0.8]}, task__name="spirals")
    with open(tmp_path / "whole" / "metrics.jsonl", "a") as file:
        file.write('{"step": 1')
    (tmp_path / "none").mkdir()
    names = ("whole", "lost", "going", "alone", "other", "none")
    assert main(["compare", *(str(tmp_path / name) for name in names)]) == 0
    out, said = capsys.readouterr()
    for sentence in (
        "whole/metrics.jsonl: the last line is half written",
        "lost: replica 1 diverged at step 40; left out",
        "going: running at step 40 of 100; left out",
        "none holds no runs: give a folder that `basinet run` wrote; left out",
        "test_accuracy was not measured in any replica of isolated",
        "a single replica of isolated (task=digits), so there is no error and no test",
        "the runs are of different tasks (digits, spirals), which are not compared with each other",
    ):
        assert sentence in said
    assert "2/3" in out and "task=spirals" in out and "0.750" in out
    assert main(["compare", str(tmp_path / "going"), str(tmp_path / "none")]) == 2
    assert "no run has finished" in capsys.readouterr().err
    many = [write_run(tmp_path, f"going-{k}", {"test_accuracy": [0.1]}, state="paused", step=40) for k in range(9)]
    assert main(["compare", *(str(tmp_path / f"going-{k}") for k in range(len(many)))]) == 2
    said = capsys.readouterr().err
    assert said.count("paused at step 40 of 100") == 4 and said.endswith("; and 5 more\n")
    assert main(["compare", str(tmp_path)]) == 2
    assert f"a folder that `basinet run` wrote, such as {tmp_path / 'alone'} in it" in capsys.readouterr().err
    write_run(tmp_path, "gone", {"test_accuracy": [0.1, 0.1]}, state="diverged", diverged={0: 3, 1: 4})
    assert main(["compare", str(tmp_path / "gone")]) == 2
    assert "no replica is left to compare" in capsys.readouterr().err


def test_a_run_counts_once(tmp_path):
    planted(tmp_path / "one")
    planted(tmp_path / "two")
    found = compare(tmp_path / "one", tmp_path / "one" / "diffusion", tmp_path / "two")
    assert [len(group.rows) for group in found.groups] == [6, 6, 6]
    assert sum("repeats" in note for note in found.notes) == 3


def test_targets_with_censoring(tmp_path):
    curve = [[0.1, 0.5, 0.9], [0.1, 0.9, 0.9], [0.1, 0.2, 0.3]]
    write_run(tmp_path, "a", {"test_accuracy": [0.9, 0.9, 0.3]}, curves={"test_accuracy": curve}, steps=90)
    curve = [[0.1, 0.2, 0.9], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]
    finals = {"test_accuracy": [0.9, 0.3, 0.3]}
    write_run(tmp_path, "b", finals, curves={"test_accuracy": curve}, steps=90, strategy="consensus")
    lost = {"test_accuracy": [[0.1, 0.2, 0.3], [0.1, 0.2, 0.9], [0.9, np.nan, np.nan]] + [[0.1, np.nan, np.nan]] * 2}
    finals = {"test_accuracy": [0.9, 0.9, np.nan, np.nan, np.nan]}
    write_run(tmp_path, "c", finals, curves=lost, steps=90, strategy="isolated", diverged={2: 40, 3: 40, 4: 70})
    found = compare(*(tmp_path / name for name in "abc"), target="test_accuracy=0.8")
    first, second, third = found.rows()
    # of three replicas, two reach it, at steps 30 and 60; then one of three, at step 60
    assert (first["reached"], first["step_median"]) == (2, 60)
    assert (first["samples_median"], first["bytes_median"]) == (60 * 8 * 4, 600)
    assert (second["reached"], second["step_median"]) == (1, None)
    # both that did not diverge reach it, but three of five never do
    assert (third["reached"], third["step_median"], third["bytes_median_lower"]) == (2, None, 600)
    assert "∞" in found.table().markdown() and "seconds_median" not in first
    assert any("no times" in note for note in found.notes)


def test_a_target_that_is_to_be_fallen_to_is_reached_where_it_is_met(tmp_path):
    curve = [[5.0, 2.0, 1.5], [5.0, 4.0, 2.5]]
    run = write_run(tmp_path, "a", {"hessian_trace": [1.0, 2.0]}, curves={"hessian_trace": curve}, steps=90)
    (row,) = compare(run, target="hessian_trace=2").rows()
    assert (row["reached"], row["step_median"]) == (2, 30)


def test_seconds_of_a_simulated_clock_are_an_effort(tmp_path):
    clock = [[0.0, 2.5], [0.0, 4.5]]
    curves = {"test_accuracy": [[0.1, 0.9], [0.1, 0.9]], "simulated_time": clock}
    write_run(tmp_path, "a", {"test_accuracy": [0.9, 0.9], "simulated_time": [5.0, 9.0]}, curves=curves)
    found = compare(tmp_path / "a", target="test_accuracy=0.8", metrics=["simulated_time"])
    (row,) = found.rows()
    assert (row["simulated_time_mean"], row["simulated_time_median"]) == (7, 2.5) and not found.notes
    assert "simulated seconds to target" in found.table().markdown()
    (_, accuracy), (times, _) = found.frame.curves("test_accuracy", x="simulated_time")
    assert accuracy.tolist() == [0.1, 0.9, 0.9] and times.tolist() == [0, 4.5, 9]
    with pytest.raises(ExperimentError, match="did you mean 'simulated_time'"):
        found.frame.curves("test_accuracy", x="simulated_tim")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"by": "strategi"}, "did you mean 'strategy'"),
        ({"by": "test_accuracy"}, "--by: test_accuracy is measured, not chosen"),
        ({"target": "test_accuracy"}, "allowed is metric=value"),
        ({"target": "test_acc=1"}, "did you mean 'test_accuracy'"),
        ({"target": "communicated_bytes=1"}, "to rise or to fall"),
        ({"where": "seed=4"}, "no run has seed=4"),
        ({"target": "test_accuracy>=0.5"}, "allowed is metric=value"),
        ({"metrics": ["test_acuracy"]}, "did you mean 'test_accuracy'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, asked, sentence):
    write_run(tmp_path, "a", {"test_accuracy": [0.9, 0.9]})
    with pytest.raises(ExperimentError) as raised:
        compare(tmp_path / "a", **asked)
    assert sentence in str(raised.value)


def test_formats(tmp_path, capsys):
    folder = str(planted(tmp_path / "runs", diffusion={"name": "diffusion", "order": "a_c"}))

    def printed(*words):
        assert main(["compare", folder, *words]) == 0
        return capsys.readouterr().out

    rows = list(csv.DictReader(io.StringIO(printed("--format", "csv"))))
    assert [float(row["test_accuracy_mean"]) for row in rows] == pytest.approx([np.mean(v) for v in PLANTED.values()])
    assert json.loads(printed("--json"))["rows"][0]["test_accuracy_best"] is True
    latex = printed("--format", "latex")
    assert r"diffusion A\_C & 6/6 & \textbf{0." in latex and r"$\pm$" in latex and r"\bottomrule" in latex
    assert latex.count(r"\textbf") == 1 and latex.count("&") == 4 * 4
    markdown = printed("--format", "markdown")
    assert r"| diffusion A\_C | 6/6 | **0." in markdown
    assert " [" in printed("--interval", "bootstrap")
    head = printed("--format", "markdown", "--metrics", "degree,test_accuracy").splitlines()[0]
    assert head == "| strategy | replicas | mean degree | test accuracy ↑ | rank |"
    assert main(["compare", folder, "--out", str(tmp_path / "table.tex")]) == 0
    assert (tmp_path / "table.tex").read_text() == latex
    assert main(["compare", folder, "--out", str(tmp_path / "table.pdf")]) == 2
    assert "suffix names no format" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--by", "strategy,"], "--by: got 'strategy,'; allowed are names separated by commas"),
        (["--metrics", ""], "--metrics: got ''; allowed are names separated by commas"),
        (["--given", "excess_risk"], "--given: got excess_risk without a relation"),
        (["--y", "test_accuracy", "--x", "degree", "--target", "test_accuracy=1"], "--target: relations have no such"),
        (["--y", "test_accuracy"], "--y: a relation has two sides"),
        (["--width", "column"], "--width: got column without a figure"),
        (["--plot", "curves", "--out", "a.pdf", "--given", "degree"], "--given: a figure has no such setting"),
        (["--json", "--format", "csv"], "--json: got --format csv, too"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, capsys, words, sentence):
    run = write_run(tmp_path, "a", {"test_accuracy": [0.9, 0.9]})
    assert main(["compare", str(run), *words]) == 2
    out, said = capsys.readouterr()
    assert sentence in said and len(said.splitlines()) == 1 and not out


def test_what_was_tuned_is_no_condition_whatever_is_compared(tmp_path):
    places = [(graph, name) for graph in ("ring", "star") for name in ("diffusion", "consensus")]
    rates, tuned = dict(zip(places, (0.1, 0.4, 0.2, 0.4), strict=True)), ["optimizer.lr"]
    for (graph, name), rate in rates.items():
        own = {"topology__name": graph, "optimizer__lr": rate, "tuned": tuned, "strategy_keys": tuned}
        write_run(tmp_path, f"{graph}-{name}", {"test_accuracy": [0.5, 0.6]}, strategy=name, **own)
    by_graph = compare(*sorted(tmp_path.iterdir()), by="topology")
    assert {(g.label, g.condition) for g in by_graph.groups} == {(graph, f"strategy={name}") for graph, name in rates}
    found = compare(*sorted(tmp_path.iterdir()))
    assert not any("optimizer.lr" in note for note in (*found.notes, *by_graph.notes))
    for comparison in (found, by_graph):
        assert comparison.columns[0] == "optimizer.lr" in comparison.table().titles
        assert sorted(row["optimizer.lr"] for row in comparison.rows()) == ["0.1", "0.2", "0.4", "0.4"]
