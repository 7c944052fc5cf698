"""The study of S³Attention: what it compares, at sizes that take seconds."""

from dataclasses import replace

import pytest

from basinet.analysis.studies.sequences.length_presets import ARENA, SMALL
from basinet.analysis.studies.sequences.long_sequences import find_out
from basinet.sim.experiment.config import KINDS

TINY = replace(
    SMALL,
    listops=replace(
        SMALL.listops,
        task={**SMALL.listops.task, "max_length": 16, "train_size": 40, "test_size": 20},
        model={"width": 16, "hidden": 8},
        steps=2,
        batch=8,
    ),
    pixels=replace(
        SMALL.pixels,
        task={**SMALL.pixels.task, "size": 4, "train_size": 40, "test_size": 20},
        model={"width": 16, "hidden": 8},
        steps=2,
        batch=8,
        lengths={9: {"size": 3}},
    ),
    lengths=(16, 64),
)


@pytest.fixture(scope="module")
def findings():
    told = []
    found = find_out(lambda share, doing: told.append(share), TINY, seeds=1, agents=4, processes=1)
    assert told == sorted(told) and told[0] == 0.0 and told[-1] == pytest.approx(1.0)
    return found


@pytest.mark.slow
def test_all_models_are_trained_by_one_and_the_two_compared_by_several(findings):
    rows = next(drawing.rows for drawing in findings.drawings if drawing.name == "accuracy")
    for task, lengths in (("nested lists", {16}), ("pixels", {9, 16})):
        mine = [row for row in rows if row["task"] == task]
        assert {row["length"] for row in mine} == lengths
        usual = [row for row in mine if row["length"] == 16]
        assert len(usual) == 5 + 2
        assert len({row["model"] for row in usual if row["training"] == "centralised"}) == 5
        assert {row["model"] for row in usual if row["training"] == "diffusion"} == {"S³Attention", "softmax attention"}
    assert all(0 <= row["accuracy"] <= 1 for row in rows)


@pytest.mark.slow
def test_memory_of_softmax_attention_is_quadratic_only_if_it_is_explicit(findings):
    rows = next(drawing.rows for drawing in findings.drawings if drawing.name == "costs")
    held = {(row["model"], row["length"]): row["bytes"] for row in rows}
    growth = {name: held[name, 64] / held[name, 16] for name, _ in held}
    assert growth["softmax attention, explicit"] > growth["softmax attention"]
    assert 0 < growth["S³Attention"] <= 4.1  # and what does not grow, such as the gradients of the weights


@pytest.mark.slow
def test_each_claim_has_its_rule(findings):
    claims = [check.claim for check in findings.checks]
    assert len(claims) == len(set(claims)) == 5 + 2 + 2 + 4 + 2
    for title in ("nested lists", "pixels"):
        assert any(title in claim and "diffusion" in claim for claim in claims)


@pytest.mark.parametrize("preset", [SMALL, ARENA])
def test_the_presets_are_experiments(preset):
    for course in (preset.listops, preset.pixels):
        KINDS["task"].parse(dict(course.task))
        for name in ("s3attention", "transformer", "linformer", "performer", "tokenwise"):
            KINDS["model"].parse({"name": name, **course.model})
        assert course.batch % 4 == 0  # as many samples for each of the agents
