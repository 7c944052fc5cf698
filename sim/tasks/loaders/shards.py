"""Samples in tar files, several files each, as WebDataset has them."""

import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from basinet.sim.experiment.mistakes import ExperimentError, reason_of
from basinet.sim.run.files import write_atomically
from basinet.sim.tasks.loaders.images import Decoder
from basinet.sim.tasks.losses import ClassLoss, with_loss
from basinet.sim.tasks.supervised import supervised
from basinet.sim.tasks.task import TASKS, Task
from basinet.sim.vision.picture_files import SUFFIXES

__all__ = ["shards"]

_PLACE = tuple[int, int]
"""Where a file begins in its shard, and its length."""


@TASKS.register()
def shards(
    *,
    path: str,
    test_path: str | None = None,
    inputs: Sequence[str] | None = None,
    target: str = "cls",
    classification: bool | None = None,
    size: Annotated[int, Field(ge=1)] | None = None,
    channels: Literal[1, 3] | None = None,
    loss: ClassLoss = "cross_entropy",
    lazy: bool | Literal["auto"] = "auto",
    cache: str | None = None,
    index: str | None = None,
) -> Task:
    """Load samples from tar files in which the files of a sample differ in their endings only: 7.png and 7.cls.

    A file is decoded by its ending: images (float32 [channels, height, width], from 0 to 1), .npy, .cls (an integer),
    .json (a number, a list or a mapping of these) and .txt (a word, for a class). The tar files are not
    unpacked: samples are read from them by index. They may be partitioned by the column `shard`.

    Args:
        path: The tar file, or a pattern such as "data/train-*.tar".
        test_path: The tar files of the test data.
        inputs: Endings of the files that the model takes, by default all others. Of a single one, the model takes it by
            position; of several, by name.
        target: Ending of the file with the target.
        classification: Whether the target is a class; by default, if it is a word or an integer.
        size: Height and width to which images are resized; by default they must all have the same size.
        channels: 1 for greyscale, 3 for colour; by default as stored.
        loss: The cross-entropy, or half the squared distance of the outputs from the class's unit vector.
        lazy: Whether samples are read when they are needed; "auto" if they do not fit well into memory.
        cache: Folder for decoded samples, shared by all runs that read the same files; see `supervised`.
        index: Folder for the places of the files in the shards, which are otherwise looked for at each start.

    Returns:
        A task.

    Raises:
        ValueError: If a tar file cannot be read, or its samples do not all have the same endings.
    """
    folder = None if index is None else Path(index)
    train = _Shards(path, inputs, target, size, channels, folder)
    test = None if test_path is None else _Shards(test_path, train.inputs, target, size, channels, folder)
    words = isinstance(train.plain_targets[0], str)
    if words:
        classes = sorted({str(value) for value in train.plain_targets})
        for part in (train, test):
            if part is not None:
                part.number(classes)
    task = supervised(
        train,
        test,
        model="cnn",
        classification=True if words else classification,
        target=None if len(train.inputs) == 1 else target,
        labels=train.targets if classification is not False else None,
        columns={"shard": train.names},
        lazy=lazy,
        cache=cache,
    )
    return with_loss(task, loss) if task.classification else task


class _Shards:
    """The samples of some tar files.

    Attributes:
        inputs: Endings of the files of the inputs.
        plain_targets: The target of each sample: integers, words or other numbers; None where it is a file of numbers.
        names: Name of the shard of each sample.
    """

    def __init__(
        self,
        path: str,
        inputs: Sequence[str] | None,
        target: str,
        size: int | None,
        channels: int | None,
        index: Path | None,
    ) -> None:
        given = Path(path).absolute()
        self.shards = sorted(given.parent.glob(given.name)) if any(mark in given.name for mark in "*?[") else [given]
        if not self.shards:
            raise ValueError(f"shards: no file is called {path}")
        self.decoder, self.target = Decoder(size, channels), target
        self.samples: list[tuple[str, int, dict[str, _PLACE]]] = []  # name, shard and places
        self.plain_targets: list[Any] = []
        self.stamps = []  # a changed file is another data set
        for number, shard in enumerate(self.shards):
            try:
                stat = shard.stat()
                self.stamps.append((stat.st_size, stat.st_mtime_ns))
                found = _indexed(shard, target, index)
            except (OSError, tarfile.TarError) as error:
                raise ValueError(f"shards: {shard} cannot be read: {reason_of(error)}") from error
            self.samples += [(name, number, places) for name, places, _ in found]
            self.plain_targets += [value for *_, value in found]
        self._check_endings(inputs)
        self.names = np.array([self.shards[number].name for _, number, _ in self.samples])
        self.classes: list[str] | None = None

    def _check_endings(self, inputs: Sequence[str] | None) -> None:
        """Raise if samples do not all have the same endings."""
        if not self.samples:
            raise ValueError(f"shards: {', '.join(map(str, self.shards))} hold no files with an ending")
        first, _, known = self.samples[0]
        for name, number, places in self.samples:
            if places.keys() != known.keys():
                raise ValueError(
                    f"shards: sample {name!r} of {self.shards[number]} has the files {', '.join(places)}, and {first!r}"
                    f" {', '.join(known)}"
                )
        self.inputs = [ending for ending in known if ending != self.target] if inputs is None else list(inputs)
        for ending in (*self.inputs, self.target):
            if ending not in known:
                raise ValueError(f"shards: samples have no files that end in .{ending}, but in {', '.join(known)}")
        if not self.inputs:
            raise ValueError(f"shards: samples have no files besides those that end in .{self.target}")

    @property
    def targets(self) -> list[int] | None:
        """The class of each sample, if targets are integers or numbered words."""
        if self.classes is not None:
            return [self.classes.index(value) for value in self.plain_targets]
        return self.plain_targets if all(type(value) is int for value in self.plain_targets) else None

    def number(self, classes: list[str]) -> None:
        """Number targets that are words; raise if one is none of the classes."""
        self.classes = classes
        for value, (name, number, _) in zip(self.plain_targets, self.samples, strict=True):
            if value not in classes:
                raise ValueError(
                    f"shards: the target of sample {name!r} of {self.shards[number]} is {value!r}, which is none of the"
                    f" training samples: {', '.join(classes)}"
                )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> Any:
        name, number, places = self.samples[row]
        found: dict[str, Any] = {}
        for ending in (*self.inputs, self.target):
            what = f"{name}.{ending} in {self.shards[number]}"
            try:
                begin, length = places[ending]
                content = os.pread(self._opened[number], length, begin)
                is_image = f".{ending}".lower().endswith(SUFFIXES)
                found[ending] = self.decoder(content, what) if is_image else _decoded(ending, content)
            except ExperimentError:
                raise
            except Exception as error:  # a decoder may raise anything
                raise ExperimentError(f"task: {what} cannot be used: {reason_of(error)}") from error
        if self.classes is not None:
            found[self.target] = self.classes.index(found[self.target])
        return found if len(self.inputs) > 1 else (found[self.inputs[0]], found[self.target])

    @cached_property
    def _opened(self) -> Sequence[int]:
        """The descriptors of the tar files, in this process."""
        return _Opened(self.shards)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_opened"}


class _Opened(Sequence[int]):
    """Files that are opened when they are first read, and closed at the end."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.open: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: Any) -> Any:
        if number not in self.open:
            self.open[number] = os.open(self.files[number], os.O_RDONLY)
        return self.open[number]

    def __del__(self) -> None:
        for descriptor in self.open.values():
            os.close(descriptor)


def _decoded(ending: str, content: bytes) -> Any:
    """Decode a file that is no image."""
    last = ending.rsplit(".", 1)[-1]
    if last == "npy":
        return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))
    if last == "cls":
        return int(content)
    if last == "json":
        return _tensors(json.loads(content))
    if last == "txt":
        return content.decode().strip()
    raise ValueError(f"files that end in .{ending} are not known; allowed are images, .npy, .cls, .json and .txt")


def _tensors(found: Any) -> Any:
    """Convert lists of numbers to tensors."""
    if isinstance(found, list):
        return torch.tensor(found)
    return {key: _tensors(value) for key, value in found.items()} if isinstance(found, Mapping) else found


def _indexed(shard: Path, target: str, folder: Path | None) -> list[tuple[str, dict[str, _PLACE], Any]]:
    """Find the samples of a tar file: name, place of each file, and target where it is a plain value."""
    stat = shard.stat()
    kept = None if folder is None else folder / f"{shard.name}.{stat.st_size}.{stat.st_mtime_ns}.{target}.json"
    if kept is not None and kept.exists():
        with suppress(ValueError, TypeError):  # what is damaged is made again
            return [
                (name, {ending: (begin, length) for ending, (begin, length) in places.items()}, value)
                for name, places, value in json.loads(kept.read_text(encoding="utf-8"))
            ]
    found: dict[str, dict[str, _PLACE]] = {}
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            file = PurePosixPath(member.name)
            stem, _, ending = file.name.partition(".")
            if member.isfile() and stem and ending:
                found.setdefault(str(file.parent / stem), {})[ending] = (member.offset_data, member.size)
    samples = []
    with open(shard, "rb") as file_:
        for name, places in found.items():
            value = None
            if target in places and target.rsplit(".", 1)[-1] in ("cls", "txt", "json"):
                file_.seek(places[target][0])
                try:
                    value = _decoded(target, file_.read(places[target][1]))
                except ValueError as error:
                    raise ValueError(
                        f"shards: {name}.{target} in {shard} cannot be used: {reason_of(error)}"
                    ) from error
            samples.append((name, places, value if isinstance(value, int | float | str) else None))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps(samples))
    return samples
