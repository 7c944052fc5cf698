"""What earlier versions wrote is read as they meant it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import basinet
from basinet.launch.cli import main

RUN = "diffusion-atc"


@pytest.fixture(params=["written_by_0_1_0"])
def written(request, tmp_path):
    return Path(shutil.copytree(Path(__file__).parent / request.param, tmp_path / "written"))


def test_a_folder_of_an_earlier_version_is_read(written, tmp_path, capsys, no_reports):
    def printed(*words):
        assert main(list(map(str, words))) == 0
        return json.loads(capsys.readouterr().out)

    results = basinet.load(written)
    assert results.states == {RUN: "done"}
    (row,) = results.summary()
    # The eigenvalues are 2, 1 and 1/2; the loss is the one that is written there.
    assert row["hessian_trace_mean"] == pytest.approx(3.5)
    assert row["train_loss_mean"] == pytest.approx(0.03175356425344944, rel=1e-12)
    assert printed("compare", written, "--json")["rows"][0]["train_loss_mean"] == row["train_loss_mean"]
    (measured,) = printed("analyze", written / RUN, "--only", "hessian_top_eigenvalue", "--json")
    assert measured["hessian_top_eigenvalue_mean"] == pytest.approx(2.0)
    assert measured["hessian_trace_mean"] == row["hessian_trace_mean"]
    assert printed("predict", written / RUN, "--json")
    assert main(["report", str(written)]) == 0
    assert main(["export", str(written / RUN), "--agent", "3", "--out", str(tmp_path / "model.pt")]) == 0
    (value,) = torch.load(tmp_path / "model.pt", weights_only=True).values()
    assert value.shape == (3,) and value.isfinite().all()


def test_the_same_experiment_goes_on_in_a_folder_of_an_earlier_version(written, capsys, no_reports):
    metrics = written / RUN / "metrics.jsonl"
    before = metrics.read_bytes()
    assert main(["run", str(written / "experiment.yaml"), "--out", str(written), "--quiet"]) == 0
    assert metrics.read_bytes() == before
