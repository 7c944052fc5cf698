"""Files of nested plain values and tensors, which any reader of safetensors opens, and whose reading runs no code.

The file is a safetensors file: the length of the header, the header in JSON, and the tensors' bytes. Its metadata has

crc32              the checksum of the whole file, in which these eight digits count as zeros
basinet            the version of Basinet that wrote it
nesting            the version of the form of `values`
values             the nesting in JSON; what JSON cannot hold is an object with one key, its kind: `{"tensor": name}`,
                   `{"dict": [[key, value], …]}`, `{"tuple": […]}`
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from basinet import __version__
from basinet.sim.experiment.mistakes import ExperimentError, shown

__all__ = ["TensorFile", "check_form", "read_tensor_file"]

_NESTING = 1

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types that safetensors has; complex numbers are written as pairs."""

_DTYPES = {str(kind).removeprefix("torch."): kind for kind in (*_TYPES.values(), torch.complex64, torch.complex128)}

_NAMES = {dtype: name for name, dtype in _TYPES.items()}

_START = b'{"__metadata__":{"crc32":"'
_DIGITS = b"00000000"
_LENGTH = 8
_EXACT = 2**53
"""Other readers of JSON may round larger integers."""

_PLAIN: dict[str, Callable[[str], Any]] = {
    "int": lambda digits: int(digits, 16),
    "float": float,
    "bytes": bytes.fromhex,
    "dtype": _DTYPES.__getitem__,
}


class TensorFile:
    """The content of a file, as a sequence of its parts: the tensors are not copied, and must not change before.

    Args:
        values: Nested dicts, lists and tuples of None, bool, int, float, complex, str, bytes, torch.dtype and tensors.

    Raises:
        TypeError: Another value is among them.
    """

    def __init__(self, values: Any) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._values = json.dumps(self._nested(values, ()), allow_nan=False)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        # Large numbers first, so that each tensor begins at a multiple of its itemsize.
        tensors = dict(sorted(self._tensors.items(), key=lambda item: -item[1].itemsize))
        head = self._head(tensors)
        digits = _LENGTH + len(_START)
        crc = zlib.crc32(head)
        for tensor in tensors.values():
            crc = zlib.crc32(_bytes(tensor), crc)
        yield head[:digits] + f"{crc:08x}".encode() + head[digits + len(_DIGITS) :]
        for tensor in tensors.values():
            yield _bytes(tensor)

    def _head(self, tensors: dict[str, Tensor]) -> bytes:
        """Write the header, padded so that the tensors begin at a multiple of 8, with zeros for the checksum."""
        about = {"basinet": __version__, "format": "pt", "nesting": str(_NESTING), "values": self._values}
        header: dict[str, Any] = {"__metadata__": {"crc32": _DIGITS.decode(), **about}}
        end = 0
        for name, tensor in tensors.items():
            begin, end = end, end + tensor.nbytes
            header[name] = {"dtype": _NAMES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(_LENGTH, "little") + text

    def _nested(self, value: Any, place: tuple[Any, ...]) -> Any:
        """Describe a value in plain JSON, and note its tensors."""
        if isinstance(value, np.generic):
            value = value.item()
        match value:
            case None | bool() | str():
                return value
            case int():
                return int(value) if abs(value) < _EXACT else {"int": hex(value)}
            case float():
                return float(value) if math.isfinite(value) else {"float": str(float(value))}
            case complex():
                return {"complex": [self._nested(part, place) for part in (value.real, value.imag)]}
            case bytes():
                return {"bytes": value.hex()}
            case torch.dtype():
                return {"dtype": str(value).removeprefix("torch.")}
            case Tensor():
                return self._noted(value, place)
            case dict():
                pairs = ((self._nested(key, place), self._nested(v, (*place, key))) for key, v in value.items())
                return {"dict": [list(pair) for pair in pairs]}
            case list() | tuple():
                items = [self._nested(item, (*place, number)) for number, item in enumerate(value)]
                return items if isinstance(value, list) else {"tuple": items}
        where = ".".join(map(str, place))
        raise TypeError(f"a checkpoint cannot hold {where}, {shown(value)} of the type {type(value).__name__}")

    def _noted(self, tensor: Tensor, place: tuple[Any, ...]) -> dict[str, str]:
        tensor, kind = tensor.detach().cpu(), "tensor"
        if tensor.is_complex():
            tensor, kind = torch.view_as_real(tensor.resolve_conj()), "complex tensor"
        if tensor.dtype not in _NAMES or tensor.layout != torch.strided:
            raise TypeError(f"a checkpoint cannot hold {'.'.join(map(str, place))}, a tensor of {tensor.dtype}")
        name = ".".join(map(str, place))
        while name in self._tensors or name == "__metadata__":
            name += "'"
        self._tensors[name] = tensor.contiguous()
        return {kind: name}


def read_tensor_file(path: Path) -> Any:
    """Read a file written from a `TensorFile`.

    Args:
        path: The file.

    Returns:
        The nested values.

    Raises:
        ExperimentError: It is in the form of a later version.
        ValueError: It does not hold what was written. What is wrong in the header may raise other exceptions, too.
    """
    with open(path, "rb") as file:
        header, crc = _read_header(file)
        about = header.pop("__metadata__")
        tensors, end = {}, 0
        left = os.fstat(file.fileno()).st_size - file.tell()
        for name, entry in header.items():
            dtype, shape, (begin, after) = _TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            if begin != end or after - begin != math.prod(shape) * dtype.itemsize or after > left:
                raise ValueError(f"it does not hold all of {name}")
            tensors[name], end = torch.empty(shape, dtype=dtype), after
            content = _bytes(tensors[name])
            file.readinto(content)
            crc = zlib.crc32(content, crc)
    if end != left:
        raise ValueError("it is longer than its tensors")
    if about["crc32"] != f"{crc:08x}":
        raise ValueError("its checksum is wrong")
    if _is_later(about):
        raise ExperimentError(
            f"{path}: Basinet {about['basinet']} wrote it in a form that {__version__} cannot read; go on with that"
            " version, or choose another folder"
        )
    return _restored(json.loads(about["values"]), tensors)


def check_form(path: Path) -> None:
    """Raise if a later version wrote a file in a form that this one cannot read; others are not read as a whole.

    Args:
        path: The file, which may be missing or damaged.

    Raises:
        ExperimentError: It did, and the file is intact.
    """
    if not path.is_file():  # a pipe may have no end
        return
    try:
        with open(path, "rb") as file:
            later = _is_later(_read_header(file)[0]["__metadata__"])
        if later:
            read_tensor_file(path)
    except ExperimentError:
        raise
    except Exception:  # a damaged file may raise anything; what is left of the run is found later
        return


def _is_later(about: dict[str, str]) -> bool:
    return int(about["nesting"]) > _NESTING


def _read_header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Read the header, and compute its checksum, as if its digits were zeros."""
    start = file.read(_LENGTH)
    length = int.from_bytes(start, "little")
    if length > os.fstat(file.fileno()).st_size:
        raise ValueError("its header is cut off")
    text = file.read(length)
    if not text.startswith(_START):
        raise ValueError("it does not begin with a checksum")
    digits = len(_START)
    crc = zlib.crc32(start + text[:digits] + _DIGITS + text[digits + len(_DIGITS) :])
    return json.loads(text), crc


def _bytes(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _restored(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Restore what `TensorFile` has described."""
    if isinstance(value, list):
        return [_restored(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    match kind:
        case "dict":
            return {_restored(key, tensors): _restored(item, tensors) for key, item in held}
        case "tuple":
            return tuple(_restored(item, tensors) for item in held)
        case "tensor":
            return tensors[held]
        case "complex tensor":
            return torch.view_as_complex(tensors[held])
        case "complex":
            return complex(*(_restored(part, tensors) for part in held))
    return _PLAIN[kind](held)
