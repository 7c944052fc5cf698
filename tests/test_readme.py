"""The README's Python runs as it stands, and its commands exist."""

import re
from pathlib import Path

import pytest
import yaml

from basinet.sim.experiment.experiment import Experiment

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "readme"}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["results"].states == {"EveryOther": "done"}
    assert (tmp_path / "runs" / "python" / "report.html").exists()
    said = capsys.readouterr().out
    accuracies = re.findall(r"^(?:isolated|diffusion ATC) (\S+)", said, flags=re.MULTILINE)
    assert len(accuracies) == 2 and min(map(float, accuracies)) > 0.9  # half of the points are in either class
    before, after = map(float, re.findall(r"^(\S+) → (\S+)$", said, flags=re.MULTILINE)[0])
    assert after < before / 10


def test_the_experiments_of_the_readme_are_valid():
    first, *further = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL))
    for keys in ({}, *further):
        assert list(Experiment({**first, **keys}).runs) == ["centralized", "consensus", "diffusion-atc"]
