"""Modules beside an experiment are found from any folder, also by later commands and after the project has moved."""

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from basinet.launch.cli import main
from tests.launch.test_cli import TINY
from tests.reports import without_reports

CODE = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        return super().forward(x.flatten(1))
"""
KEYS = {"strategy": "diffusion", "steps": 4, "evaluate_every": 4, "replicas": 1, "analysis": []}


def as_a_new_process(monkeypatch, folder):
    """Forget the modules of the user, and everything that may have been added to the path."""
    for name in [name for name in sys.modules if name.startswith("basinettest_")]:
        del sys.modules[name]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not Path(place).is_relative_to(folder)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.parametrize(
    ("file", "stages", "commands"),
    [
        (
            "basinettest_own.py",
            {},
            (
                ["analyze", "runs/diffusion-atc", "--only", "hessian_trace"],
                ["predict", "runs/diffusion-atc"],
                ["export", "runs", "weights.pt"],
                ["run", "runs/experiment.yaml", "--out", "again", "--quiet"],
            ),
        ),
        (
            "basinettest_pkg/nets.py",
            {"stages": [{"steps": 2}, {"steps": 3}]},
            (["export", "runs/2-stage", "weights.pt"], ["run", "runs/pipeline.yaml", "--dry-run"]),
        ),
    ],
)
def test_modules_beside_an_experiment_are_found_from_any_folder(
    tmp_path, monkeypatch, file, stages, commands, capsys, least_measured
):
    elsewhere, project = tmp_path / "elsewhere", tmp_path / "project"
    (project / file).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (project / file).write_text(CODE)
    (elsewhere / Path(file).parts[0]).mkdir()  # a folder of the same name, which is not that module
    module = file.removesuffix(".py").replace("/", ".")
    (project / "e.yaml").write_text(yaml.safe_dump({**TINY, **KEYS, "model": f"{module}:Net", **stages}))
    monkeypatch.chdir(elsewhere)
    as_a_new_process(monkeypatch, tmp_path)
    with without_reports() if stages else nullcontext():
        assert main(["run", str(project / "e.yaml"), "--out", str(project / "runs"), "--quiet"]) == 0
    record = yaml.safe_load((project / "runs" / ("pipeline.yaml" if stages else "experiment.yaml")).read_text())
    assert record["modules"] == [".."]
    assert stages or "modules</th>" not in (project / "runs" / "report.html").read_text()

    moved = project.rename(tmp_path / "moved")  # so that what this process remembers is of no use
    for command, place, *others in commands:
        as_a_new_process(monkeypatch, tmp_path)
        with without_reports():
            assert main([command, str(moved / place), *others]) == 0, capsys.readouterr().err
