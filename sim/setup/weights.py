"""Files of weights: state dicts of torch and safetensors, and the folders in which models are shared."""

import importlib
import io
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import first_line, reason_of
from basinet.sim.models.model import OfTransformers
from basinet.sim.run.files import write_atomically

__all__ = [
    "SUFFIXES",
    "folder_files",
    "read_about",
    "read_config",
    "read_folder",
    "read_weights",
    "write_folder",
    "write_weights",
]

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Suffixes of files of weights; all but the first are torch's."""

_OF_A_FOLDER = tuple(
    file + index for file in ("model.safetensors", "pytorch_model.bin") for index in ("", ".index.json")
)


def read_weights(path: Path, key: str) -> dict[str, Tensor]:
    """Read a state dict; no code in the file is run.

    Args:
        path: A file with one of the suffixes; torch's may hold the state dict under the key `state_dict`.
        key: Its key in the experiment, for messages.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        ExperimentError: It cannot be read, or holds no state dict.
    """
    if path.suffix not in SUFFIXES:
        raise ExperimentError(f"{key}: got {path}; allowed are files that end with {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".safetensors":
            loaded: Any = _safetensors(key).load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except ExperimentError:
        raise
    except OSError as error:
        raise ExperimentError(f"{key}: {path} cannot be read: {reason_of(error)}") from None
    except Exception as error:  # a damaged file may raise anything
        reason = first_line(error) if path.suffix == ".safetensors" else "it is damaged, or holds more than tensors"
        raise ExperimentError(f"{key}: {path} cannot be read: {reason}") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not (isinstance(loaded, Mapping) and loaded and all(isinstance(value, Tensor) for value in loaded.values())):
        raise ExperimentError(f"{key}: {path} holds no state dict, which maps names to tensors")
    return {str(name): value.detach() for name, value in loaded.items()}


def read_about(path: Path, key: str) -> dict[str, str]:
    """Read the metadata that `write_weights` has written.

    Args:
        path: The file, which `read_weights` can read.
        key: Its key, for messages.

    Returns:
        The metadata; none if it has none.
    """
    if path.suffix == ".safetensors":
        _safetensors(key)
        from safetensors import safe_open

        with safe_open(path, "pt") as opened:
            return dict(opened.metadata() or {})
    return dict(getattr(torch.load(path, map_location="cpu", weights_only=True), "about", {}))


def folder_files(folder: Path) -> bool:
    """Return whether a folder holds the weights of a model as hubs do.

    Args:
        folder: The folder.

    Returns:
        Whether it does.
    """
    return any(os.path.isfile(folder / name) for name in _OF_A_FOLDER)  # whatever the path is


def read_folder(folder: Path, key: str) -> dict[str, Tensor]:
    """Read the weights in the local folder of a hub's model, in one file or several.

    Args:
        folder: The folder.
        key: Its key in the experiment, for messages.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        ExperimentError: It holds none, or they cannot be read.
    """
    found = next((folder / name for name in _OF_A_FOLDER if (folder / name).is_file()), None)
    if found is None:
        raise ExperimentError(f"{key}: {folder} holds no weights; looked for {', '.join(_OF_A_FOLDER)}")
    if found.suffix != ".json":
        return read_weights(found, key)
    try:
        parts = sorted(set(json.loads(found.read_text(encoding="utf-8"))["weight_map"].values()))
        inside = all(Path(part).name == part for part in parts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ExperimentError(f"{key}: {found} cannot be read: {reason_of(error)}") from error
    if not inside:
        raise ExperimentError(f"{key}: {found} names files outside of {folder}")
    return {name: value for part in parts for name, value in read_weights(folder / part, key).items()}


def write_weights(state: Mapping[str, Tensor], path: Path, about: Mapping[str, str], key: str) -> None:
    """Write a state dict, in the format that the suffix names.

    Args:
        state: Tensors by name; what shares memory is written under each of its names.
        path: The file.
        about: Metadata: in a safetensors file its own, in a torch file the attribute `about` of the state dict.
        key: The file's key, for messages.

    Raises:
        ExperimentError: The suffix names no format.
    """
    if path.suffix == ".safetensors":
        apart = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
        write_atomically(path, _safetensors(key).save(apart, metadata={"format": "pt", **about}))
    elif path.suffix in SUFFIXES:
        buffer = io.BytesIO()
        described = OrderedDict(state)
        described.about = dict(about)  # type: ignore[attr-defined]
        torch.save(described, buffer)
        write_atomically(path, buffer.getbuffer())
    else:
        raise ExperimentError(f"{key}: got {path}; allowed are files that end with {', '.join(SUFFIXES)}")


def write_folder(model: OfTransformers, folder: Path, tokens: Any, about: Mapping[str, str]) -> dict[str, Tensor]:
    """Write a model in the form in which transformers shares models.

    Args:
        model: The model, a module.
        folder: The folder; it need not exist.
        tokens: The tokens of its task, see `basinet.sim.tasks.language.tokens.Tokens`; None if it has none.
        about: Metadata of the weights.

    Returns:
        The state dict that was written, in which a shared tensor has one name.

    Raises:
        ExperimentError: The folder cannot be one, or a package is missing.
    """
    assert isinstance(model, nn.Module)
    if folder.exists() and not folder.is_dir():
        raise ExperimentError(f"--out: {folder} is a file; choose a folder")
    named = dict(model.named_parameters())  # each under its first name
    held = model.state_dict(keep_vars=True).items()
    state = {name: t.detach() for name, t in held if name in named or not isinstance(t, nn.Parameter)}
    dtype = str(next(iter(state.values())).dtype).removeprefix("torch.")
    config = model.transformers_config() | dict.fromkeys(("bos_token_id", "eos_token_id"), getattr(tokens, "end", None))
    write_weights(state, folder / "model.safetensors", about, "--out")
    write_atomically(folder / "config.json", json.dumps({**config, "torch_dtype": dtype}, indent=1))
    if tokens is not None:
        end = next((t["content"] for t in json.loads(tokens.content)["added_tokens"] if t["id"] == tokens.end), None)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end}
        settings["model_max_length"] = config["max_position_embeddings"]
        write_atomically(folder / "tokenizer.json", tokens.content)
        write_atomically(folder / "tokenizer_config.json", json.dumps(settings, indent=1))
    return state


def read_config(folder: Path, key: str) -> dict[str, Any]:
    """Read the config.json of a hub's model.

    Args:
        folder: The folder.
        key: Its key in the experiment, for messages.

    Returns:
        Its entries; none if there is no such file.

    Raises:
        ExperimentError: It cannot be read.
    """
    file = folder / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{key}: {file} cannot be read: {reason_of(error)}") from error
    return found if isinstance(found, dict) else {}


def _safetensors(key: str) -> ModuleType:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError:
        raise ExperimentError(f"{key}: a .safetensors file needs the package safetensors; pip install it") from None
