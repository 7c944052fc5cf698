"""Crash-safe files that detect damage: each has a checksum of its own, or one recorded in another file.

A file that is replaced contains its own checksum. The length and checksum of one that grows are recorded in a file
written after it; anything beyond that length was written as the process died, and is cut off.
"""

import errno
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.mistakes import ExperimentError, naming
from basinet.sim.run.checkpoints.checkpoint_names import EARLIER, SUFFIX

__all__ = [
    "ANEW",
    "LOCKS",
    "LOST",
    "NOTHING",
    "Content",
    "Damaged",
    "GrowingFile",
    "Vouched",
    "check_vouched",
    "checksum",
    "discard",
    "discard_leftovers",
    "inside",
    "is_leftover",
    "no_linked_run",
    "not_a_link",
    "plain_file",
    "read_json",
    "read_yaml",
    "seal",
    "sealed_json",
    "sealed_yaml",
    "sync_folders",
    "unseal",
    "write_atomically",
]

Vouched = Mapping[str, Any]
"""The recorded beginning of a file: its number of `bytes` and their `crc32`."""

Content = str | bytes | memoryview | Iterable[bytes | memoryview]
"""What is written to a file, as a whole or in parts."""

NOTHING: Vouched = {"bytes": 0, "crc32": "00000000"}

_SEAL = "crc32"
_SEALED_YAML = re.compile(rb"# crc32 ([0-9a-f]{8}) of what follows\n")
_DISCARDED = ".discarded-"
_CHUNK = 2**20

LOCKS = (".lock", ".report.lock")
"""The locks of the process at work in a folder, and of the process that draws its report meanwhile."""

ANEW = "--fresh (fresh=True) starts anew"
"""The remedy if the experiment to run is no longer known."""

LOST = "some of what was written is missing or has changed"
"""The reason given for a file that no longer starts with its recorded content."""


class Damaged(ExperimentError):
    """A file that does not hold what was written to it.

    Args:
        path: The file.
        reason: What is wrong with it.
        cure: The remedy.
    """

    def __init__(
        self, path: Path, reason: str, cure: str = "the same experiment into the same folder makes it anew"
    ) -> None:
        kind = "checkpoint" if path.suffix in (SUFFIX, EARLIER) else "file"
        super().__init__(f"{path}: the {kind} is damaged ({reason}); {cure}")
        self.parts = path, reason, cure

    def __reduce__(self) -> tuple[type[Self], tuple[Path, str, str]]:  # workers raise it, too
        return type(self), self.parts


def inside(folder: Path, name: Any) -> Path:
    """Return the path of a run named in a file; no name may lead out of the folder.

    Args:
        folder: The folder.
        name: The name.

    Returns:
        The path.

    Raises:
        ExperimentError: It is not a plain name, or is a link.
    """
    if not isinstance(name, str) or not name or name.startswith(".") or re.search(r"[/\\\0]", name):
        raise ExperimentError(f"{folder}: {name!r} is not the name of a run; allowed are names of folders in {folder}")
    return not_a_link(folder / name)


def not_a_link(path: Path) -> Path:
    """Raise if a path is a link, which may lead out of the folder.

    Args:
        path: A file or folder.

    Returns:
        The path.

    Raises:
        ExperimentError: It is a link.
    """
    if path.is_symlink():
        raise ExperimentError(f"{path}: it is a link, which may lead out of the folder; put a copy in its place")
    return path


def no_linked_run(folder: Path) -> Path:
    """Raise if a run of an experiment is a link; elsewhere, users may have links to runs.

    Args:
        folder: The folder of an experiment or of a run, as given.

    Returns:
        The folder.

    Raises:
        ExperimentError: It is a link in the folder of an experiment.
    """
    return not_a_link(folder) if (folder.absolute().parent / "experiment.yaml").exists() else folder


def plain_file(path: Path) -> Path:
    """Raise if a path exists but is not a regular file.

    Args:
        path: A file, which may not exist yet.

    Returns:
        The path.

    Raises:
        ExperimentError: It is a link, a folder, or a pipe, which may have no end.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path
    if not stat.S_ISREG(not_a_link(path).stat().st_mode if stat.S_ISLNK(mode) else mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise ExperimentError(f"{path}: it is {kind}, where a file must be; move it away")
    return path


def write_atomically(path: Path, data: Content, *, sync: bool = True) -> None:
    """Write a file so that readers, and crashes, see the old content or the new one, never a mixture.

    Args:
        path: The file.
        data: Its new content, or the parts of it.
        sync: Whether it must also survive a power failure.

    Raises:
        ExperimentError: The path is a folder, a pipe or a device, which cannot be replaced.
        OSError: It cannot be written.
    """
    if not path.is_symlink():
        plain_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with naming(path), open(partial, "wb", opener=_open_no_link) as file:
            if isinstance(data, str):
                data = data.encode(errors="replace")  # folder names may be odd
            file.writelines([data] if isinstance(data, bytes | memoryview) else data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)  # frees space on a full disk for the error to be recorded
        raise


def sync_folders(path: Path) -> None:
    """Make the name of a new file survive a power failure, and that of its folder.

    Args:
        path: The file.

    Raises:
        OSError: The disk fails.
    """
    for folder in path.absolute().parents[:2]:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no need of it
                raise
        finally:
            os.close(number)


def _open_no_link(path: str, flags: int) -> int:
    """Open or create a file for writing, but not through a link, which may lead out of the folder."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o666)


def is_leftover(path: Path) -> bool:
    """Return whether a file or folder is not part of an experiment: a lock, or a leftover of a killed process.

    Args:
        path: The file or folder.

    Returns:
        Whether it is one.
    """
    return path.name in LOCKS or path.name.startswith(_DISCARDED) or (path.name[0] == "." and path.suffix == ".partial")


def discard(path: Path) -> None:
    """Delete a folder so that a crash leaves it complete, or under a name that is never read.

    Args:
        path: The folder.

    Raises:
        ExperimentError: It is not a folder.
    """
    discard_leftovers(path.parent)
    if path.exists():
        if not path.is_dir():
            raise ExperimentError(f"{path}: it is a file, where a folder must be; move it away")
        gone = path.with_name(_DISCARDED + path.name)
        os.rename(path, gone)
        shutil.rmtree(gone)


def discard_leftovers(folder: Path) -> None:
    """Delete folders whose deletion was interrupted.

    Args:
        folder: Their parent folder.
    """
    for left in folder.glob(f"{_DISCARDED}*"):
        shutil.rmtree(not_a_link(left))


def checksum(data: bytes | memoryview) -> str:
    """Compute a checksum.

    Args:
        data: Bytes.

    Returns:
        The CRC-32 in hexadecimal digits.
    """
    return f"{zlib.crc32(data):08x}"


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Add a checksum to values.

    Args:
        values: Plain values that survive a round trip through JSON.

    Returns:
        The same values, with the checksum as the last key.
    """
    values = {key: value for key, value in values.items() if key != _SEAL}
    return {**values, _SEAL: checksum(json.dumps(values).encode())}


def unseal(values: Any) -> dict[str, Any]:
    """Check and remove the checksum added by `seal`.

    Args:
        values: The values read; those of earlier versions have no checksum.

    Returns:
        The values.

    Raises:
        ValueError: It is not a mapping, or the checksum does not match.
    """
    if not isinstance(values, dict):
        raise ValueError("it does not hold a mapping")
    found = {key: value for key, value in values.items() if key != _SEAL}
    if _SEAL in values and values[_SEAL] != checksum(json.dumps(found).encode()):
        raise ValueError("its checksum is wrong")
    return found


def sealed_json(values: Mapping[str, Any]) -> str:
    """Write values as JSON with their checksum.

    Args:
        values: Plain values.

    Returns:
        The text.
    """
    return json.dumps(seal(values), indent=1) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a file written with `sealed_json`.

    Args:
        path: The file.

    Returns:
        The values.

    Raises:
        Damaged: It is not JSON, or the checksum does not match.
    """
    return _mapping(path, lambda path: unseal(json.loads(path.read_bytes())))


def sealed_yaml(values: Mapping[str, Any]) -> str:
    """Write values as YAML, with a checksum in a comment.

    Args:
        values: Plain values.

    Returns:
        The text.
    """
    text = yaml_files.dump(dict(values))
    return f"# crc32 {checksum(text.encode())} of what follows\n{text}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a file written with `sealed_yaml`.

    Args:
        path: The file.

    Returns:
        The values; files of earlier versions have no checksum.

    Raises:
        Damaged: It is not YAML, or the checksum does not match.
    """
    content = plain_file(path).read_bytes()
    seal = _SEALED_YAML.match(content)
    if seal is None:
        return _mapping(path, yaml_files.read, ANEW)
    if seal[1].decode() != checksum(content[seal.end() :]):
        _mapping(path, yaml_files.read, ANEW)  # which says what is wrong, if it is not YAML
        raise Damaged(path, "its checksum is wrong", ANEW)
    return _mapping(path, lambda _: yaml_files.load_written(content[seal.end() :].decode()), ANEW)


def _mapping(path: Path, reader: Callable[[Path], Any], *cure: str) -> dict[str, Any]:
    try:
        found = reader(plain_file(path))
    except ExperimentError:
        raise
    except (ValueError, RecursionError) as error:
        raise Damaged(path, str(error), *cure) from error
    if not isinstance(found, dict):
        raise Damaged(path, "it does not hold a mapping", *cure)
    return found


class GrowingFile:
    """A file that is only appended to.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._length = -1
        self._crc = 0
        self._synced = True

    @property
    def length(self) -> int:
        """Length of the file in bytes; before the first `cut`, of its complete lines."""
        if self._length < 0:
            self.cut()
        return self._length

    def cut(self, vouched: Vouched | None = None) -> None:
        """Drop everything beyond the recorded content, to continue where a process stopped.

        Args:
            vouched: The recorded beginning; by default, all complete lines.

        Raises:
            Damaged: The file does not begin with it.
        """
        if vouched is None:
            content = self.path.read_bytes() if plain_file(self.path).exists() else b""
            content = content[: content.rfind(b"\n") + 1]
            vouched = {"bytes": len(content), "crc32": checksum(content)}
        else:
            check_vouched(self.path, vouched)
        self._length, self._crc = vouched["bytes"], int(vouched["crc32"], 16)
        self.append(b"")

    def append(self, data: bytes | memoryview) -> None:
        """Append data.

        Args:
            data: The data.
        """
        length = self.length
        with naming(self.path), open(self.path, "r+b", opener=_open_no_link) as file:
            file.truncate(length)  # drops what an earlier attempt left on a full disk
            file.seek(length)
            file.write(data)
        self._crc = zlib.crc32(data, self._crc)
        self._length = length + len(data)
        self._synced = False

    def vouch(self) -> Vouched:
        """Make what was written survive a power failure.

        Returns:
            The length and checksum to record; see `check_vouched`.
        """
        length = self.length
        if not self._synced:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
            self._synced = True
        return {"bytes": length, "crc32": f"{self._crc:08x}"}


def check_vouched(path: Path, vouched: Vouched) -> None:
    """Raise if a file no longer begins with its recorded content.

    Args:
        path: The file.
        vouched: The record, from `GrowingFile.vouch`.

    Raises:
        Damaged: Something is missing or has changed.
    """
    left, crc = vouched["bytes"], 0
    if plain_file(path).exists():
        with open(path, "rb") as file:
            while left and (chunk := file.read(min(left, _CHUNK))):
                crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    if left or f"{crc:08x}" != vouched["crc32"]:
        raise Damaged(path, LOST)
