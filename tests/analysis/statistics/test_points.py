from pathlib import Path

from basinet.analysis.statistics.points import final_points, point_cells
from basinet.sim.run.folder import Run


def make(name: str, agents: bool) -> Run:
    rows = [
        {"step": 9, "replica": replica, "train_loss": 0.5 + replica, "generalization_gap": 0.25} for replica in range(3)
    ]
    if agents:
        rows += [
            {"step": 9, "replica": replica, "agent": agent, "train_loss": 1.0 + replica + 2 * agent}
            for replica in range(3)
            for agent in range(2)
        ]
    rows.append({"step": 0, "replica": 0, "agent": 0, "train_loss": 99.0})  # of the start, and of no use
    config = {"strategy": {"name": name}, "batch_size": 8, "steps": 9}
    return Run(name, Path(name), config, {"state": "done", "step": 9, "diverged": {"2": 4}}, rows)


def test_points_after_the_last_step_of_replicas_that_did_not_diverge() -> None:
    found = final_points([make("consensus", True)])
    assert [(row["replica"], row["point"], row["train_loss"]) for row in found] == [
        (0, "centroid", 0.5),
        (1, "centroid", 1.5),
        (0, 0, 1.0),
        (0, 1, 3.0),
        (1, 0, 2.0),
        (1, 1, 4.0),
    ]


def test_the_spread_of_estimates_stands_beside_their_error() -> None:
    run = make("consensus", True)
    for row in run.metrics:
        if "agent" in row:
            row |= {"hessian_trace": float(row["agent"]), "hessian_trace_error": 0.5 + row["replica"]}
    headings, rows = point_cells([run])
    assert [row[2] for row in rows] == ["centroid", "agents", "spread", "error"]
    column = headings.index("Hessian trace ↓")
    assert [row[column] for row in rows] == ["–", "0.5 ± 0", "0.7071 ± 0", "1.00 ± 0.50"]
    assert rows[3][headings.index("train loss ↓")] == "–"  # which is exact


def test_the_run_is_the_unit() -> None:
    headings, rows = point_cells([make("consensus", True)])
    assert headings == ["condition", "strategy", "at", "train loss ↓"]  # the gap was not measured at the agents
    assert [row[1:] for row in rows] == [
        ["consensus", "centroid", "1.00 ± 0.50"],
        ["consensus", "agents", "2.50 ± 0.50"],  # 2 and 3, not four values
        ["consensus", "spread", "1.414 ± 0"],
    ]
