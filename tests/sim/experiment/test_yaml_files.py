"""YAML: what is written reads back as itself, here and elsewhere, and a value is what it looks like."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from basinet.sim.experiment import yaml_files

WORDS = [
    "on",
    "Off",
    "yes",
    "NO",
    "y",
    "true",
    "TRUE",
    "null",
    "~",
    "",
    "1e3",
    "1e-3",
    "1.5",
    ".5",
    "1:30",
    "010",
    "0x1F",
]
WORDS += [
    "0o17",
    "0b1",
    "1_000",
    "2024-01-01",
    ".inf",
    "-.INF",
    ".nan",
    "<<",
    "=",
    "a: b",
    "# c",
    "- d",
    "[e",
    "*f",
    "&g",
]
WORDS += [
    "1.",
    "+1",
    "-",
    "é",
    "\u2028",
    "\u0085",
    "\ufeff",
    "\x7f",
    "\U0001f600",
    "\n",
    "a\n\nb ",
    "!!int 3",
    "'",
    '"',
    "%",
]

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXTS
    | st.text("0123456789+-.:_eExob~ ")
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS | st.sampled_from(WORDS), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_reads_back_as_itself(value):
    text = yaml_files.dump(value)
    for read in (yaml_files.load(text), yaml_files.load_written(text), yaml.safe_load(text)):
        # 1 == 1.0 == True: the representation tells them apart
        assert repr(read) == repr(value)


def test_single_words_read_back_as_themselves(tmp_path):
    for load in (yaml_files.load, yaml_files.load_written):
        assert load(yaml_files.dump(WORDS)) == WORDS
    assert math.isnan(yaml_files.load(yaml_files.dump(math.nan)))
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "words.yaml").write_bytes(mark + yaml_files.dump(dict.fromkeys(WORDS, "é")).encode())
        assert yaml_files.read(tmp_path / "words.yaml") == dict.fromkeys(WORDS, "é")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[on, Off, yes, no, y, N]", ["on", "Off", "yes", "no", "y", "N"]),
        ("[true, True, FALSE, 'true']", [True, True, False, "true"]),
        ("[1:30, 1_000, 2024-01-01, 0b1]", ["1:30", "1_000", "2024-01-01", "0b1"]),
        ("[010, -3, +4, 0o17, 0x1F]", [10, -3, 4, 15, 31]),
        ("[1e-3, 1E3, 1.5e2, .5, 2., -.inf, '1e3']", [1e-3, 1e3, 150.0, 0.5, 2.0, -math.inf, "1e3"]),
        ("[null, ~, '', !!float 3, !!str 3]", [None, None, "", 3.0, "3"]),
        ("{on: 1, 2: 3}", {"on": 1, 2: 3}),
        ("a: &a {x: [1]}\nb: *a\nc: {<<: *a, y: 2}", {"a": {"x": [1]}, "b": {"x": [1]}, "c": {"x": [1], "y": 2}}),
        ("[" * 40 + "]" * 40, eval("[" * 40 + "]" * 40)),
        ("", None),
    ],
)
def test_values_are_what_they_look_like(text, value):
    assert repr(yaml_files.load(text)) == repr(value)


BOMB = "\n".join(["a: &a0 [lol]", *(f"{10 + k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12))])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is written twice, first on line 1"),
        ("x: {'a': 1, a: 3}", "line 1: the key 'a' is written twice"),
        ("a: 1\ntrue: 2", "line 2: got true, where a key must be a name"),
        ("{null: 2}", "line 1: got null, where a key must be a name"),
        ("[1]: 2", "line 1: got a list or mapping, where a key must be a name"),
        ("a: &a [1, *a]", "line 1: 'a' contains itself"),
        ("a: &a\n  b: {c: *a}", "line 2: 'a' contains itself"),
        ("[" * 5000 + "]" * 5000, "line 1: more than 50 lists and mappings are nested"),
        ("{a: " * 900 + "1" + "}" * 900, "line 1: more than 50 lists"),
        ("- " * 300 + "1", "line 1: more than 50 lists"),
        (BOMB, "line 6: it expands to more than 100000 values"),
        ("!!python/name:os.system x", "line 1: could not determine a constructor"),
        ("!!int x", "line 1: 'x' is not a valid int"),
        ("a\n---\nb", "line 2: expected a single document"),
        ("a: [1", "line 1: while parsing a flow sequence, expected ',' or ']'"),
        ("a: \x00", "unacceptable character"),
        ("9" * 5000, "line 1: got a number of 5000 digits"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}") as caught:
        yaml_files.load(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"a: 1\nb: \xf6", "a: 1\nb: 2".encode("utf-16")])
def test_files_are_utf_8(tmp_path, text):
    (tmp_path / "e.yaml").write_bytes(text)
    with pytest.raises(ValueError, match=r"^line [12]: it is not text in UTF-8"):
        yaml_files.read(tmp_path / "e.yaml")
