"""Prompts: classes of passages of real text, which a language model tells by the word that it continues with."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from basinet.algorithms.draws import fold, key, permutation
from basinet.sim.tasks.kept import Kept
from basinet.sim.tasks.language.corpus import Document, all_documents, divided, limited
from basinet.sim.tasks.language.tokens import Tokens, check_logits, make_tokens
from basinet.sim.tasks.left_out import GENERATED, check_left_out
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.tasks.task import TASKS, Batch, Task

__all__ = ["PromptClassification", "prompt_classification"]

_Parts = tuple[Sequence[Document], Sequence[Document]]
"""Documents to train and to test on."""

_TEST_SHARE = 0.3
"""Share of the text that test passages are from."""

_OF_PACKAGES = "for classes: packages; allowed with others is to leave it out"

_READ = 2**20
"""Bytes of the standard library that are separated into text and code."""


@dataclass(frozen=True, kw_only=True)
class PromptClassification(Task):
    """The choice of a word that continues a prompt, with the cross-entropy among these words as the loss.

    A batch is (inputs, targets): prompts of equal length, int64 [B, T], and the class of each, int64 [B].

    Attributes:
        tokens: The vocabulary.
        words: The token by which the word of each class is told from the others, int64 [C].
        names: The words.
    """

    tokens: Tokens
    words: Tensor
    names: tuple[str, ...]
    model: str = "llama"

    loss_words: ClassVar[str] = "cross-entropy among the label words that may continue the prompt"

    @property
    def kept(self) -> dict[str, Kept]:
        """What a run keeps: the tokens."""
        return {"tokens": self.tokens.kept}

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """Apply a language model to prompts.

        Args:
            model: Returns the logits of the next token at each place, [B, T, V].
            batch: The batch.

        Returns:
            The logits of the label words behind the prompt, [B, C].
        """
        logits = output_of(model(batch[0]))
        check_logits(logits, batch[0], self.tokens)
        return logits[:, -1].index_select(-1, self.words)

    @property
    def outputs_per_sample(self) -> int:
        """Number of outputs that a model computes for one sample."""
        return self.input_shape[0] * self.tokens.size


@TASKS.register()
def prompt_classification(
    *,
    classes: Literal["kinds", "packages"] = "kinds",
    packages: Sequence[str] = ("asyncio", "email", "tkinter", "unittest"),
    path: str | None = None,
    prompt: str = "\nThis is",
    words: Mapping[str, str] | None = None,
    tokens: str = "bytes",
    length: Annotated[int, Field(ge=2)] = 128,
    shots: Annotated[int, Field(ge=1)] = 16,
    test_shots: Annotated[int, Field(ge=1)] = 50,
    seed: int = 0,
) -> Task:
    r"""Tell the class of a passage by the word that continues a prompt, for the fine-tuning of a language model.

    A sample is a passage of real text and the beginning of a sentence about it, such as "… This is"; the class is the
    word that a language model thinks most likely to follow. The words are told apart by the first token in which they
    differ: what they share belongs to the prompt, and only this token counts. Prompts have T tokens, the first of which
    is the end of a text; training and test passages are from different documents, or from the beginning and the end of
    the only document of a class.

    Start from a run of `language_model` that has the same tokens (`start: RUN`, or `stages`). Samples may be
    partitioned by the columns `package` and `document`, besides their classes.

    Args:
        classes: What is told of passages of the standard library: "kinds", whether they are "text" (of docstrings) or
            "code"; "packages", of which package they are.
        packages: The packages.
        path: Local files instead, a pattern such as "mail/*/*.txt"; their classes are their folders.
        prompt: What stands between a passage and the word.
        words: The word of each class, by default its name.
        tokens: "bytes", or the path of a byte-level tokenizer.json.
        length: Tokens in a prompt, T.
        shots: Training samples of each class.
        test_shots: Test samples of each class, the same for all seeds.
        seed: Seed of the choice of training samples; the simulator supplies it.

    Returns:
        A task with one output per class.

    Raises:
        ImportError: If `tokenizers` is needed and not installed.
        ValueError: If there is no such text, a class has too few passages, or its word no token of its own.

    Example:
        >>> task = prompt_classification(length=40)
        >>> task.names, task.tokens.decode(task.words.tolist())
        (('text', 'code'), 'tc')
        >>> task.tokens.decode(task.train[0][0].tolist())[-9:]
        '\nThis is '
    """
    if tokens == "bpe":
        raise ValueError(
            "tokens: got 'bpe', which would be trained on other text than that of the model; allowed are bytes and the"
            " path of a tokenizer.json"
        )
    if path is not None:
        check_left_out(prompt_classification, GENERATED, classes=classes)
    if path is not None or classes == "kinds":
        check_left_out(prompt_classification, _OF_PACKAGES, packages=packages)
    made = make_tokens(tokens, None, ())
    texts = _texts(classes, packages, path)
    unknown = [name for name in words or {} if name not in texts]
    if unknown:
        raise ValueError(f"words: got one for {unknown[0]!r}, which is no class; allowed are {', '.join(texts)}")
    names = tuple((words or {}).get(name, name) for name in texts)
    if len(names) < 2:
        raise ValueError(f"{'path' if path else 'packages'}: got {len(names)} class, and at least two are needed")
    shared, endings = _endings(made, prompt, names)
    room = length - 1 - len(shared)
    if room < 1:
        raise ValueError(f"length: got {length}, and the prompt alone has {1 + len(shared)} tokens; allowed are more")
    parts: dict[str, list[Tensor]] = {"train": [], "test": []}
    kept: list[Document] = []
    for label, (name, (train, test)) in enumerate(texts.items()):
        for place, some, count in (("train", train, shots), ("test", test, test_shots)):
            drawn = key(seed if place == "train" else 0, f"passages of {place}")
            passages, sources = _passages(made, some, room, count, fold(torch.tensor([drawn]), label))
            if len(passages) < count:
                which = "shots" if place == "train" else "test_shots"
                raise ValueError(
                    f"{which}: got {count}, and {name} has {len(passages)} {place} passages of {room} tokens; allowed"
                    " are at most as many"
                )
            parts[place].append(passages)
            kept += sources if place == "train" else []
    ends = torch.tensor([made.end]), torch.tensor(shared, dtype=torch.int64)

    def samples(passages: list[Tensor]) -> tuple[Tensor, Tensor]:
        bodies = torch.cat(passages)
        inputs = torch.cat([ends[0].expand(len(bodies), -1), bodies, ends[1].expand(len(bodies), -1)], 1)
        return inputs, torch.arange(len(passages)).repeat_interleave(len(bodies) // len(passages))

    columns: dict[str, NDArray[Any]] = {
        "package": np.array([document.package for document in kept]),
        "document": np.array([document.name for document in kept]),
    }
    task = PromptClassification(
        train=samples(parts["train"]),
        test=samples(parts["test"]),
        num_outputs=len(names),
        vocabulary=made.size,
        columns=columns,
        tokens=made,
        words=torch.tensor(endings),
        names=names,
    )
    task.check()
    return task


def _texts(classes: str, packages: Sequence[str], path: str | None) -> dict[str, _Parts]:
    """Return the documents of each class to train and to test on."""
    documents = all_documents(source="standard_library", path=path)
    if path is None and classes == "kinds":
        parts = divided(limited(documents, _READ), _TEST_SHARE)
        train, test = ([_separated(document) for document in part] for part in parts)
        return {
            kind: ([pair[place] for pair in train], [pair[place] for pair in test])
            for place, kind in enumerate(("text", "code"))
        }
    names = list(dict.fromkeys(document.package for document in documents)) if path else list(packages)
    texts: dict[str, _Parts] = {}
    for name in names:
        if name in texts:
            raise ValueError(f"packages: got {name!r} twice; allowed are different ones")
        some = [document for document in documents if document.package == name]
        if not some:
            raise ValueError(f"packages: got {name!r}, which is no package or module of the standard library")
        texts[name] = divided(some, _TEST_SHARE)
    return texts


def _separated(document: Document) -> tuple[Document, Document]:
    """Separate the docstrings of a module from its code, which is left without comments on lines of their own."""
    lines = document.text.splitlines()
    texts = []
    try:
        tree = ast.parse(document.text)
    except SyntaxError:  # such as a module that was cut
        return replace(document, text=""), replace(document, text="")
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if (docstring := ast.get_docstring(node)) is None:
                continue
            texts.append(docstring)
            place = node.body[0]
            first, last = place.lineno - 1, place.end_lineno or place.lineno
            lines[first:last] = [""] * (last - first)
    code = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return replace(document, text="\n".join(texts)), replace(document, text=code)


def _endings(tokens: Tokens, prompt: str, words: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt that all words share, and the first one that differs, of each word."""
    whole = [tokens.encode(f"{prompt} {word}") for word in words]
    same = next((n for n, row in enumerate(zip(*whole, strict=False)) if len({*row}) > 1), min(map(len, whole)))
    found = [sentence[same : same + 1] for sentence in whole]
    for place, (word, ending) in enumerate(zip(words, found, strict=True)):
        if not word:
            raise ValueError("words: got ''; allowed are words of at least a letter")
        if words.count(word) > 1:
            raise ValueError(f"words: got {word!r} for two classes; allowed is another word for each")
        if not ending:
            longer = next(words[n] for n, other in enumerate(found) if other)
            raise ValueError(
                f"words: got {word!r}, with whose tokens {longer!r} begins; allowed are words that differ from all"
                " others before they end"
            )
        if ending in found[:place]:
            raise ValueError(
                f"words: got {word!r}, which differs from {words[found.index(ending)]!r} not in the token where the"
                f" words part ({tokens.decode(ending)!r}); allowed are words that differ from all others there"
            )
    return whole[0][:same], [ending[0] for ending in found]


def _passages(
    tokens: Tokens, documents: Sequence[Document], length: int, count: int, drawn: Tensor
) -> tuple[Tensor, list[Document]]:
    """Draw passages of equal length, none of which overlap, and say of which document each is."""
    found, sources = [], []
    for document in documents:
        content = torch.tensor(tokens.encode(document.text), dtype=torch.int64)
        pieces = content[: len(content) // length * length].view(-1, length)
        found.append(pieces)
        sources += [document] * len(pieces)
    pieces = torch.cat(found)
    order = permutation(drawn, torch.tensor([len(pieces)]), len(pieces))[0, :count] if len(pieces) else torch.arange(0)
    return pieces[order], [sources[place] for place in order.tolist()]
