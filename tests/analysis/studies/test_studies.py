"""The frame of a study: what it writes, and what it refuses to write over."""

import csv
import fcntl
import math
import shutil
from dataclasses import replace
from functools import partial

import pytest
from matplotlib.figure import Figure

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.studies import STUDIES, Check, Findings, check_folder, write_findings
from basinet.analysis.studies.flatness_tradeoff.presets import DIGITS
from basinet.analysis.studies.journal import JOURNAL, journal, once
from basinet.launch.reproduce import reproduce
from basinet.sim.experiment.component import ExperimentError, Kind
from basinet.sim.run.files import LOCKS


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
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {"growth.png", "growth.csv"}


def test_a_study_writes_over_studies_alone(tmp_path):
    check_folder(tmp_path / "new")
    write_findings(found(), tmp_path / "out", command="", seconds=0)
    check_folder(tmp_path / "out")
    (tmp_path / "trainings").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExperimentError, match="holds something other than a study"):
        check_folder(tmp_path)
    begun = tmp_path / "begun" / "trainings" / "one" / "diffusion"
    begun.mkdir(parents=True)
    (begun / "config.yaml").touch()
    check_folder(tmp_path / "begun")  # a study that was interrupted
    with pytest.raises(ExperimentError, match=r"notes\.txt is a file"):
        check_folder(tmp_path / "notes.txt")
    with pytest.raises(ExperimentError, match=r"cannot be written, since nothing can be written into .*notes\.txt$"):
        check_folder(tmp_path / "notes.txt" / "study")
    assert not (tmp_path / "new").exists()


def test_a_study_looks_for_room_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1024}))
    with pytest.raises(ExperimentError, match=r"^--out: the findings take up to 32 MiB, and 1 KiB are free at .*new$"):
        check_folder(tmp_path / "new")


def test_what_is_finished_is_kept_and_not_done_again(tmp_path, caplog):
    done = []

    def find(value):
        done.append(value)
        return [value, float("inf"), {"third": value / 3}]

    def study(*values):
        with journal(tmp_path / "new", "thirds"):
            return [once("third", partial(find, value), value=value) for value in values]

    assert once("third", partial(find, 1), value=1) == [1, math.inf, {"third": 1 / 3}]  # no journal, nothing kept
    done.clear()
    first = study(1, 2)
    assert first == [[value, math.inf, {"third": value / 3}] for value in (1, 2)]
    assert study(1, 2, 3)[:2] == first and done == [1, 2, 3]
    file = tmp_path / "new" / JOURNAL
    file.write_text(file.read_text()[:-5])  # a crash while the third was written
    assert study(1, 2, 3)[2] == find(3) and done == [1, 2, 3, 3, 3]
    file.write_text(file.read_text().replace("Infinity", "1.0", 1))  # damage to the first
    assert study(1, 2, 3) == [*first, find(3)] and done == [1, 2, 3, 3, 3, 1, 3]
    assert "line 1 is damaged (its checksum is wrong)" in caplog.text
    with journal(tmp_path / "new", "another study"):
        once("third", partial(find, 1), value=1)
    assert done[-1] == 1
    check_folder(tmp_path / "new")


def files(folder):
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.csv")}
    assert found
    return found


def test_an_interrupted_study_goes_on_to_the_same_findings(tmp_path, monkeypatch):
    done, ends_at = [], None

    def square(n):
        if n == ends_at:
            raise KeyboardInterrupt
        done.append(n)
        return {"x": n, "y": n / 3}

    def study(progress, *, numbers: int = 3):
        rows = [once("square", partial(square, n), n=n) for n in range(numbers)]
        return replace(found(), drawings=[replace(found().drawings[0], rows=rows)])

    monkeypatch.setitem(STUDIES, "squares", study)
    reproduce("squares", out=tmp_path / "whole", quiet=True)
    ends_at, done[:] = 2, []
    with pytest.raises(KeyboardInterrupt):
        reproduce("squares", out=tmp_path / "half", quiet=True)
    ends_at = None
    with open(tmp_path / "half" / LOCKS[0]) as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        with pytest.raises(ExperimentError, match="another process is at work"):
            reproduce("squares", out=tmp_path / "half", quiet=True, fresh=True)
    reproduce("squares", out=tmp_path / "half", quiet=True)
    assert done == [0, 1, 2] and files(tmp_path / "half") == files(tmp_path / "whole")
    reproduce("squares", ["numbers=3"], out=tmp_path / "half", quiet=True, fresh=True)
    assert done == [0, 1, 2] * 2


@pytest.mark.slow
def test_heavy_tails_go_on_to_the_same_findings(tmp_path, monkeypatch):
    words = ["horizons=[8,16]", "repeats=2", "processes=1"]
    reproduce("heavy-tails", words, out=tmp_path / "whole", quiet=True)
    lines = (tmp_path / "whole" / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / JOURNAL).write_text("".join(lines[: len(lines) // 2]))
    reproduce("heavy-tails", words, out=tmp_path / "half", quiet=True)
    assert files(tmp_path / "half") == files(tmp_path / "whole")
    assert len((tmp_path / "half" / JOURNAL).read_text().splitlines()) == len(lines)


@pytest.mark.parametrize(
    ("measured", "verdict"), [(-0.25, "agrees"), (-0.31, "disagrees"), (float("nan"), "disagrees")]
)
def test_a_check_compares(measured, verdict):
    assert Check.near("slope", -0.2, measured, within=0.1).verdict == verdict


@pytest.mark.parametrize("value", [0, -1, True, 10**12, 10**40, math.nan, math.inf, 1.5, "many", [], [[]]])
@pytest.mark.parametrize("name", STUDIES)
def test_no_study_takes_a_setting_that_makes_no_sense(name, value):
    kind = Kind("study", STUDIES, ("progress", "folder"))
    for setting, parameter in kind.settings(name).items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            with pytest.raises(ExperimentError, match=rf"^study.{setting}: ") as error:
                kind.parse({"name": name, setting: value})
            assert len(str(error.value)) <= 300


@pytest.mark.parametrize("key", ["agents", "replicas", "seed"])
def test_no_setting_of_a_training_is_taken_that_makes_no_sense(key):
    for value in (-1, True, 10**40, math.nan, math.inf, 1.5, [1]):
        with pytest.raises(ExperimentError, match=f"^{key}: got "):
            DIGITS.changed({key: value})
