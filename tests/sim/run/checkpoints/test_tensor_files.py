"""Files of nested values: the same values again, readable by others, and never something else in silence."""

import json
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from basinet.sim.run.checkpoints import tensor_files
from basinet.sim.run.checkpoints.checkpoint_files import load_frozen
from basinet.sim.run.checkpoints.tensor_files import TensorFile, read_tensor_file
from basinet.sim.run.files import write_atomically

TYPES = [*tensor_files._TYPES.values(), torch.complex64, torch.complex128]


def of_type(dtype, *shape):
    return torch.arange(math.prod(shape)).view(shape).to(dtype)


STATE = {
    "step": 3,
    "none": None,
    "infinite": complex(-math.inf, 0.5),
    "escape_steps": torch.arange(3),
    "rows": {
        "parameters": torch.linspace(0, 1, 12, dtype=torch.float64).view(3, 4),
        "each": [{"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"betas": (0.9, 0.99), "lr": 0.1}]}],
        "turned": torch.arange(6).view(2, 3).T,
        "wide": torch.ones(1).expand(4),
    },
}


def written(values, folder):
    path = folder / "state.safetensors"
    write_atomically(path, TensorFile(values))
    return path


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)
    if isinstance(a, dict):
        keys = zip(a, b, strict=True) if isinstance(b, dict) and len(a) == len(b) else [(0, None)]
        return all(same(k, other) and same(a[k], b[other]) for k, other in keys)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return isinstance(b, float) and struct.pack("d", a) == struct.pack("d", b)
    return type(a) is type(b) and a == b


def raw(tensor):
    return tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.just(math.nan), st.text(), st.binary(),
    st.complex_numbers(allow_nan=False), st.sampled_from(TYPES),
    st.builds(of_type, st.sampled_from(TYPES), st.integers(0, 2), st.integers(0, 3)),
)  # fmt: skip
KEYS = st.one_of(st.integers(), st.text(), st.tuples(st.integers(), st.text()))
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(KEYS, inner)),
    max_leaves=8,
)


@settings(max_examples=20)
@given(NESTED)
def test_what_was_written_is_read(tmp_path_factory, values):
    folder = tmp_path_factory.getbasetemp()
    assert same(values, read_tensor_file(written(values, folder)))


def test_tensors_of_all_types_shapes_and_strides_are_read(tmp_path):
    values = {str(dtype): [of_type(dtype), of_type(dtype, 2, 3).T, of_type(dtype, 0, 3)] for dtype in TYPES}
    values |= {"turned": STATE["rows"]["turned"], "wide": STATE["rows"]["wide"], "conjugate": torch.tensor([1j]).conj()}
    values |= {"a": {"b": torch.zeros(1)}, "a.b": torch.ones(1), "__metadata__": torch.zeros(2)}
    assert same(values, read_tensor_file(written(values, tmp_path)))
    huge = [10**6000, -(2**53), np.float32(0.1), np.int64(7)]
    assert read_tensor_file(written(huge, tmp_path)) == [10**6000, -(2**53), float(np.float32(0.1)), 7]


def test_another_reader_finds_the_same_tensors(tmp_path):
    path = written(STATE, tmp_path)
    found, rows = load_file(path), STATE["rows"]
    assert torch.equal(found["rows.parameters"], rows["parameters"]) and torch.equal(
        found["rows.turned"], rows["turned"]
    )
    assert found["rows.each.0.state.0.step"] == 2.0 and len(found) == 5
    with safe_open(path, "pt") as opened:
        assert opened.metadata()["format"] == "pt" and "lr" in opened.metadata()["values"]


def test_each_tensor_begins_at_a_multiple_of_its_itemsize(tmp_path):
    """So that others can map the file into memory."""
    for text in ("", "1"):
        tensors = {"a": torch.ones(3, dtype=torch.int8), "b": torch.ones(1), "c": torch.ones(1).double()}
        content = written(tensors | {"text": text}, tmp_path).read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        begins = [header[name]["data_offsets"][0] % tensor.itemsize for name, tensor in tensors.items()]
        assert length % 8 == 0 and begins == [0, 0, 0]


@pytest.mark.parametrize("value", [{1}, object(), np.zeros(2), torch.zeros(2).to_sparse(), print])
def test_what_cannot_be_read_again_is_not_written(value):
    with pytest.raises(TypeError, match=r"a checkpoint cannot hold rows.0.x"):
        TensorFile({"rows": [{"x": value}]})


def test_damage_anywhere_is_noticed(tmp_path):
    path = written(STATE, tmp_path)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x20]) + content[place + 1 :])  # or a capital letter
        assert load_frozen(path) is None, place
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place])
        assert load_frozen(path) is None, place
    path.write_bytes(content + b"\0")
    assert load_frozen(path) is None
    path.write_bytes(content)
    assert same(load_frozen(path), STATE)


def forged(path, change):
    """Write a header that says something else, with the right checksum."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    content = len(text).to_bytes(8, "little") + text + content[8 + length :]
    digits = content.index(header["__metadata__"]["crc32"].encode())
    zeros = content[:digits] + b"0" * 8 + content[digits + 8 :]
    path.write_bytes(zeros[:digits] + f"{tensor_files.zlib.crc32(zeros):08x}".encode() + zeros[digits + 8 :])


def test_a_header_that_lies_is_not_believed(tmp_path):
    def sizes(header):
        header["rows.parameters"]["shape"] = [10**9, 10**9]  # nothing of this size is allocated

    def beyond(header):
        header["rows.wide"]["shape"], header["rows.wide"]["data_offsets"][1] = [10**12], 10**12 * 4

    def elsewhere(header):
        header["rows.parameters"]["data_offsets"] = [8, 104]

    def missing(header):
        del header["rows.wide"]

    def kinds(header):
        header["__metadata__"]["values"] = '{"__import__": "os"}'

    for lie in (sizes, beyond, elsewhere, missing, kinds):
        path = written(STATE, tmp_path)
        forged(path, lie)
        assert load_frozen(path) is None, lie
    path = written(STATE, tmp_path)
    forged(path, lambda header: header["__metadata__"].update(nesting="2", basinet="7.0"))
    with pytest.raises(ValueError, match=r"Basinet 7\.0 wrote it in a form that .* cannot read"):
        read_tensor_file(path)
    forged(path, lambda header: header["__metadata__"].update(nesting="1"))
    assert same(read_tensor_file(path), STATE)
