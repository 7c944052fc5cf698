"""Matrices read from files, and the policy that reads a mixing matrix."""

import bz2
import gzip
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from scipy.sparse import csr_array, load_npz

from basinet.topologies.mixing_matrix import POLICIES, check_mixing_matrix

__all__ = ["decode", "file", "read_bytes", "read_matrix"]

READERS: dict[str, Callable[..., Any]] = {
    ".npz": load_npz,
    ".npy": np.load,
    ".csv": partial(np.loadtxt, delimiter=",", ndmin=2, encoding="utf-8-sig"),
}

_NO_MATRIX = (ValueError, TypeError, AttributeError, EOFError, LookupError, UserWarning, RuntimeError, MemoryError)
"""What the readers raise for files without a matrix, or that claim one larger than any memory."""


@POLICIES.register()
def file(graph: nx.Graph, *, path: str | Path) -> csr_array:
    r"""A mixing matrix read from a file, such as weights optimised elsewhere.

    Args:
        graph: Graph or DiGraph. Rows and columns of the matrix follow its node order, and entries off its edges and
            the diagonal must be zero.
        path: The file: .npz (a sparse matrix, as scipy.sparse.save_npz writes it), .npy (an array, as numpy.save
            does) or .csv (numbers separated by commas). Row k holds the weights that agent k gives to what it
            receives.

    Returns:
        Mixing matrix [K, K].

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     place = Path(folder) / "weights.csv"
        ...     _ = place.write_text("0.75,0.25\n0.5,0.5\n")
        ...     file(nx.path_graph(2), path=place).toarray()
        array([[0.75, 0.25],
               [0.5 , 0.5 ]])
    """
    return check_mixing_matrix(read_matrix(path, "the policy file"), graph)


def read_matrix(path: str | Path, reader: str) -> csr_array:
    """Read a matrix of numbers.

    Args:
        path: The file, ending in .npz, .npy or .csv.
        reader: What reads it, for error messages.

    Returns:
        The matrix, float64, without stored zeros.

    Raises:
        ValueError: If the file cannot be read, or does not hold a matrix of real numbers.
    """
    read = READERS.get(Path(path).suffix)
    if read is None:
        raise ValueError(f"{reader}: path is {str(path)!r}, but must end in {', '.join(READERS)}")
    _check_ordinary(path, reader)
    try:
        # numpy only warns about an empty file.
        with warnings.catch_warnings(action="error", category=UserWarning):
            # scipy supports neither 16-bit floats nor foreign byte orders.
            found = read(path)
            if hasattr(found, "check_format"):  # indices out of bounds would otherwise be followed
                found.check_format(full_check=True)
            matrix = csr_array(found.astype(np.float64, casting="safe"))
    except OSError as error:
        raise ValueError(
            f"{reader}: path is {str(path)!r}, which cannot be read ({error.strerror or error})"
        ) from error
    except (*_NO_MATRIX, zipfile.BadZipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{reader}: {str(path)!r} is not a matrix of numbers ({reason})") from error
    if matrix.ndim != 2:
        raise ValueError(f"{reader}: {str(path)!r} has the shape {matrix.shape}, but must be a matrix")
    matrix.eliminate_zeros()
    return matrix


def read_bytes(path: str | Path, reader: str) -> bytes:
    """Read a file, decompressed if its name ends in .gz or .bz2.

    Args:
        path: The file.
        reader: What reads it, for error messages.

    Returns:
        What it holds.

    Raises:
        ValueError: If the file cannot be read.
    """
    _check_ordinary(path, reader)
    opened: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
    try:
        with opened.get(Path(path).suffix, open)(path, "rb") as file:
            content: bytes = file.read()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{reader}: path is {str(path)!r}, which cannot be read ({reason})") from error
    return content


def _check_ordinary(path: str | Path, reader: str) -> None:
    """Raise if the file is a pipe or a device, which may have no end."""
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise ValueError(f"{reader}: path is {str(path)!r}, which is no ordinary file")


def decode(content: bytes, path: str | Path, reader: str) -> str:
    """Decode the text of a file from UTF-8, without a byte-order mark.

    Args:
        content: What the file holds.
        path: The file, for error messages.
        reader: What reads it, for error messages.

    Returns:
        The text.

    Raises:
        ValueError: If it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{reader}: line {line} of {str(path)!r} is not text in UTF-8 ({error.reason})") from error
