"""What is said of composed procedures: narrations, texts of phases, abstracts, and prompts in other words."""

from collections.abc import Sequence

from torch import Tensor

from basinet.algorithms.draws import integers
from basinet.sim.tasks.vision.procedures.procedure_stages import Difficulty, Stage

__all__ = ["DRAWS", "PROMPTS", "abstract", "narration", "phase_text", "prompts"]

_WHOLE = (
    "now the {tool} is {motion} over the {texture}",
    "{name} with the {tool} {motion} on the {texture}",
    "we go on with {name} of the {texture} by the {tool}",
)

_PARTS = (
    "here comes the {tool} again",
    "all of this is {texture}",
    "it keeps {motion} as before",
    "we continue with {name}",
)
"""Each names one part of what is seen."""

_PHASES = (
    "stage of {name} in which the {tool} works on the {texture}",
    "{name} by the {tool} {motion} over {texture}",
    "treatment of the {texture} by {name} with the {tool}",
)

_ABSTRACTS = (
    "a {kind} procedure of {stages}",
    "this {kind} consists of {stages}",
    "{kind} in {count} stages {stages}",
)

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")

DRAWS = 4 + max(len(wording.split()) for wording in (*_WHOLE, *_PARTS))
"""Numbers that a narration depends on."""

PROMPTS = (
    "a picture showing {name} while someone holds a {tool}",
    "during {name} you can find {texture} below some {tool}",
    "photo taken at {name} featuring {tool} against {texture}",
)
"""Sentences about stages whose other words no text for training has, but for articles."""


def narration(stages: Sequence[Stage], place: int, difficulty: Difficulty, drawn: Sequence[float]) -> str:
    """Say something about what is seen, which may be little, or of another stage, or lack words.

    Args:
        stages: The stages of the video.
        place: Which of them is seen.
        difficulty: How much is wrong, partial and lost.
        drawn: `DRAWS` numbers in [0, 1).

    Returns:
        A sentence of at least one word.
    """
    wrong, partial, which, other, *losses = drawn
    if wrong < difficulty.wrong:
        place = (place + 1 + int(other * (len(stages) - 1))) % len(stages)
    wordings = _PARTS if partial < difficulty.partial else _WHOLE
    words = wordings[int(which * len(wordings))].format(**vars(stages[place])).split()
    kept = [word for word, loss in zip(words, losses, strict=False) if loss >= difficulty.lost]
    return " ".join(kept) or max(words, key=len)


def phase_text(stage: Stage, drawn: Tensor) -> str:
    """Say what happens in a phase.

    Args:
        stage: Its stage.
        drawn: A key, int64 [1].

    Returns:
        A sentence.
    """
    return _PHASES[int(integers(drawn, len(_PHASES), (1,)))].format(**vars(stage))


def abstract(kind: str, stages: Sequence[Stage], drawn: Tensor) -> str:
    """Say what a video is about.

    Args:
        kind: The kind of procedure.
        stages: Its stages, in order.
        drawn: A key, int64 [1].

    Returns:
        A sentence.
    """
    names = ", ".join(stage.name for stage in stages)
    wording = _ABSTRACTS[int(integers(drawn, len(_ABSTRACTS), (1,)))]
    return wording.format(kind=kind, stages=names, count=_NUMBERS[len(stages)])


def prompts(stages: Sequence[Stage]) -> list[list[str]]:
    """Describe stages in words of their own.

    Args:
        stages: The stages.

    Returns:
        For each stage one sentence of each wording.
    """
    return [[wording.format(**vars(stage)) for wording in PROMPTS] for stage in stages]
