"""Items in files that are mapped into memory: what is damaged is made again, and nothing wrong is read."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from basinet.sim.data import memory_map
from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import Mapped, cache_folder, cached
from basinet.sim.experiment.component import ExperimentError

VALUES = [torch.arange(5.0) + row for row in range(4)]


class Source:
    def __init__(self, values: list[torch.Tensor]) -> None:
        self.values, self.fingerprint, self.read = values, "key", 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        self.read += 1
        return self.values[row], row


def opened(folder: Path, values: list[torch.Tensor] = VALUES) -> tuple[Mapped, bool]:
    """Return the items, and whether they were made."""
    source = Source(values)
    return cached(Items(source=source), folder), source.read > 1


def changed(file: str, change: Callable[[bytearray], Any]) -> Callable[[Path], Any]:
    def spoil(place: Path) -> None:
        content = bytearray((place / file).read_bytes())
        change(content)
        (place / file).write_bytes(content)

    return spoil


def recorded(text: str | Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def spoil(place: Path) -> None:
        file = place / "done.json"
        file.write_text(text if isinstance(text, str) else json.dumps(text(json.loads(file.read_text()))))

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(changed("leaf0.bin", lambda content: content.__setitem__(7, 9)), id="a wrong byte"),
        pytest.param(changed("leaf1.bin", lambda content: content.__setitem__(slice(8, 16), bytes(8))), id="zeros"),
        pytest.param(changed("shapes0.npy", lambda content: content.__setitem__(-8, 1)), id="a wrong shape"),
        pytest.param(changed("leaf0.bin", lambda content: content.pop()), id="cut"),
        pytest.param(lambda place: (place / "shapes1.npy").unlink(), id="a file is gone"),
        *(recorded(text) for text in ("", "[]", "null", "3", "{}", '{"files": {}}', '{"files": 1, "types": []}')),
        recorded(lambda record: {**record, "files": {}}),
        recorded(lambda record: {**record, "types": ["<i4", "<i8"]}),
        recorded(lambda record: {**record, "files": dict.fromkeys(record["files"], 20)}),
        recorded(lambda record: {**record, "files": [*record["files"]]}),
    ],
)
def test_damaged_files_are_made_again(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    assert [opened(tmp_path)[1] for _ in range(2)] == [True, False]
    spoil(tmp_path / "key")
    items, is_made = opened(tmp_path)
    assert is_made and not opened(tmp_path)[1]
    for row, value in enumerate(VALUES):
        assert torch.equal(items[row][0], value) and items[row][1] == row


def test_the_checksum_of_a_large_file_covers_both_ends_and_every_long_part(tmp_path: Path) -> None:
    values = [torch.ones(2**20), torch.ones(2**23)]  # 36 MB, of which half is covered
    opened(tmp_path, values)
    file = tmp_path / "key" / "leaf0.bin"
    size = file.stat().st_size
    for first, count in ((0, 1), (size - 1, 1), (size // 3, 2**18)):
        with open(file, "r+b") as raw:
            raw.seek(first)
            raw.write(bytes(count - 1) + b"x")
        assert opened(tmp_path, values)[1]


def test_all_bytes_are_on_the_disk_before_the_folder_has_its_name(tmp_path: Path, monkeypatch: Any) -> None:
    synced: list[str] = []

    def sync(file: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        assert (synced[-1] == tmp_path.name) == (tmp_path / "key").exists()

    monkeypatch.setattr(os, "fsync", sync)
    opened(tmp_path)
    files = {"leaf0.bin", "leaf1.bin", "shapes0.npy", "shapes1.npy", "done.json", "key.partial"}
    assert {*synced[:-1]} == files and synced[-1] == tmp_path.name


def test_what_is_whole_is_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path)

    def refuse(file: Path) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(memory_map, "_alone", refuse)
    found, was_made = opened(tmp_path)
    assert not was_made and torch.equal(found[2][0], VALUES[2])
    with pytest.raises(ExperimentError, match=r"task\.cache: .*Permission denied"):
        opened(tmp_path / "other")


def test_a_user_without_a_home_is_asked_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lost)
    with pytest.raises(ExperimentError, match=r"task\.cache: this user has no home folder; give a folder"):
        cache_folder()
