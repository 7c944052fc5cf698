"""Text from the language model of a finished run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from basinet.launch.finished.finished_models import check_made
from basinet.launch.results import load_one
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.language.decoder import Llama
from basinet.sim.models.language.generation import check_settings
from basinet.sim.models.language.generation import generate as continued
from basinet.sim.tasks.model_outputs import output_of

__all__ = ["generate"]


def generate(
    folder: str | Path,
    prompt: str = "",
    *,
    tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    replica: int = 0,
    agent: int | str = "centroid",
    show: Callable[[str], object] | None = None,
) -> str:
    """Let the language model of a finished run continue a text.

    The model sees as many tokens as in training, of a longer prompt the last ones. When these are full, it goes on from
    the last half of them.

    Args:
        folder: The folder of a run.
        prompt: The text; "" to begin a new one.
        tokens: Most tokens to generate.
        temperature: By how much logits are divided; 0 for the most probable tokens.
        top_k: How many of the most probable tokens are allowed; None for all.
        top_p: Only the most probable tokens are allowed, as many as it takes to reach this probability.
        seed: Seed of the random numbers.
        replica: Number of the replica.
        agent: An agent's number, or "centroid".
        show: Called with each piece of the continuation as soon as it is known.

    Returns:
        The continuation, without the prompt. It stops where the model ends the text.

    Raises:
        ExperimentError: The run has no model of text, or a setting is impossible.
    """
    try:
        check_settings(tokens=tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    results, run = load_one(folder)
    setup = results.setup(run)
    known = getattr(setup.task, "tokens", None)
    if known is None:
        raise ExperimentError(
            f"RUN: the task of {folder} has no tokens of text; allowed are runs of a task such as language_model"
        )
    check_made(setup.task, run)
    model = results.model(run, replica, agent, module=setup.plain_model())
    found = []
    try:
        begin = known.encode(prompt) or ([] if known.end is None else [known.end])
        new = continued(
            model if isinstance(model, Llama) else lambda read: output_of(model(read)),
            begin,
            setup.task.input_shape[-1],
            torch.Generator().manual_seed(seed),
            tokens=tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            end=known.end,
        )
        for piece in _decoded(new, known.decode):
            found.append(piece)
            if show is not None:
                show(piece)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    return "".join(found)


def _decoded(tokens: Iterator[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Decode tokens as soon as they make whole characters."""
    pending: list[int] = []
    for token in tokens:
        pending.append(token)
        text = decode(pending)
        if text and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text
            pending.clear()
    if pending:
        yield decode(pending)
