"""Files of pairs of videos: their headings, and what is wrong with them."""

import csv

import pytest
from openpyxl import Workbook

from basinet.sim.tasks.vision.videos.kvq_files import read_pairs

NAMES = ("4.mp4", "5.mp4", "6.mp4")
PAIRS = {"nonsource": [("4.mp4", "5.mp4", 1)], "source": [("5.mp4", "6.mp4", 2), ("4.mp4", "6.mp4", 1)]}
HEADING = ("video1", "video2", "rank")


def write(file, pairs, heading):
    if file.suffix == ".csv":
        rows = [(kind, *row) for kind, found in pairs.items() for row in found]
        with open(file, "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("kind", *heading), *rows] if heading else rows)
        return
    book = Workbook()
    book.remove(book.active)
    for kind, rows in pairs.items():
        sheet = book.create_sheet(kind)
        for row in [heading, *rows] if heading else rows:
            sheet.append(row)
    book.save(file)


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("heading", [(), HEADING, ("0", "1", "")])
def test_the_first_row_is_a_pair_or_a_heading(tmp_path, ending, heading):
    file = tmp_path / f"pairs.{ending}"
    write(file, PAIRS, heading)
    assert {kind: rows.tolist() for kind, rows in read_pairs(file, NAMES).items()} == {
        "nonsource": [[0, 1, 1]],
        "source": [[1, 2, 2], [0, 2, 1]],
    }


BAD = {
    "another video": (("4.mp4", "x.mp4", 1), "'x.mp4', which is none of the test videos"),
    "other videos": (("x.mp4", "y.mp4", 2), "'x.mp4', which is none of the test videos"),
    "another rank": (("4.mp4", "5.mp4", 3), "has the rank '3'; allowed are 1 and 2"),
    "a video and itself": (("5.mp4", "5.mp4", 1), "compares '5.mp4' with itself; two videos are needed"),
}


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("heading", [(), HEADING])
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_first_pair_is_named_and_not_taken_for_a_heading(tmp_path, ending, heading, fault):
    row, sentence = BAD[fault]
    file = tmp_path / f"pairs.{ending}"
    write(file, {"source": [row]}, heading)
    number = 2 if heading else 1
    where = f"row {number} of sheet source" if ending == "xlsx" else f"line {number}"
    with pytest.raises(ValueError, match=f"{where} of .*{sentence}$"):
        read_pairs(file, NAMES)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pairs.py", "pairs.py is of another kind; allowed are .xlsx, .xlsm and .csv"),
        ("text.xlsx", "text.xlsx is no Excel file, or damaged"),
        ("none.xlsx", "none.xlsx cannot be read: No such file or directory"),
        ("none.csv", "none.csv cannot be read: No such file or directory"),
    ],
)
def test_other_files_are_told_in_a_sentence(tmp_path, name, sentence):
    (tmp_path / "text.xlsx").write_text("no sheets")
    with pytest.raises(ValueError, match=f"^video_quality: [^:]*/{sentence}$"):
        read_pairs(tmp_path / name, NAMES)
