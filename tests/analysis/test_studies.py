"""The frame of a study: what it writes, and what it refuses to write over."""

import csv

import pytest
from matplotlib.figure import Figure

from basinet.analysis.plots.gallery import Drawing
from basinet.analysis.studies import Check, Findings, check_folder, write_findings
from basinet.sim.component import ExperimentError


def found():
    figure = Figure()
    figure.add_subplot().plot([1, 2], [1, 4])
    return Findings(
        title="Squares <grow>",
        about=["A line."],
        checks=[Check.near("slope", 2.0, 1.95, within=0.1), Check("shape", "convex", "concave", "equal", agrees=False)],
        drawings=[Drawing("growth", "Growth", "Both.", figure, [{"x": 1, "y": 1}, {"x": 2, "y": 4}])],
        sources=["Euclid."],
    )


def test_a_study_writes_its_checks_figures_and_page(tmp_path):
    page = write_findings(found(), tmp_path / "out", command="basinet reproduce growth", seconds=3.2)
    text = page.read_text()
    assert "Squares &lt;grow&gt;" in text and "1 of 2 checks agree" in text and "disagrees" in text
    with open(tmp_path / "out" / "checks.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "claim": "slope", "predicted": "2.0", "measured": "1.95", "rule": "within 0.1", "verdict": "agrees",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {
        "growth.png",
        "growth.svg",
        "growth.csv",
    }


def test_a_study_writes_over_studies_alone(tmp_path):
    check_folder(tmp_path / "new")
    write_findings(found(), tmp_path / "out", command="", seconds=0)
    check_folder(tmp_path / "out")
    (tmp_path / "trainings").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExperimentError, match="holds something else than a study"):
        check_folder(tmp_path)
    begun = tmp_path / "begun" / "trainings" / "one" / "diffusion"
    begun.mkdir(parents=True)
    (begun / "config.yaml").touch()
    check_folder(tmp_path / "begun")  # a study that was interrupted
    with pytest.raises(ExperimentError, match=r"notes\.txt is a file"):
        check_folder(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("measured", "verdict"), [(-0.25, "agrees"), (-0.31, "disagrees"), (float("nan"), "disagrees")]
)
def test_a_check_compares(measured, verdict):
    assert Check.near("slope", -0.2, measured, within=0.1).verdict == verdict
