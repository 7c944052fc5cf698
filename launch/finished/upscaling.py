"""Images enlarged by the network of a finished run."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basinet.launch.finished.finished_models import read_exported
from basinet.launch.results import load_one
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import digest
from basinet.sim.models.vision.restoration.upscaler import factor_of
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.vision.fidelity import to_bytes
from basinet.sim.vision.picture_files import Pixels, read_pixels, software_of
from basinet.sim.vision.picture_folders import Advanced, Changed, change_all, is_current, left_out_of, pictures_in
from basinet.sim.vision.resizing import enlarge
from basinet.sim.vision.self_ensemble import of_eight_views
from basinet.sim.vision.tiles import in_tiles

__all__ = ["upscale"]

_SOFTWARE = "basinet upscale "
"""What results say they are made by, before a digest of the network and the settings."""


def upscale(
    images: str | Path | Iterable[str | Path],
    model: str | Path,
    out: str | Path | None = None,
    *,
    self_ensemble: bool = False,
    tile: int = 256,
    overlap: int = 16,
    replica: int = 0,
    agent: int | str = "centroid",
    fresh: bool = False,
    device: str = "cpu",
    shown: Callable[[float, str], object] | None = None,
) -> Changed:
    """Enlarge images by the network of a finished run, such as one of the task `super_resolution`.

    `photo.jpg` becomes `photo_x4.png` beside it, or `photo.png` in another folder. An image that is named like the
    result of another one is taken for it, and left out. Opacity is enlarged by bicubic interpolation. A greyscale image
    is shown to a network of colour in three equal channels, and the results are averaged; a network of greyscale
    enlarges the channels of a colour image one by one.

    Args:
        images: Image files, and folders of such; the folders in these are not entered.
        model: The folder of a run, whose data need not be there; or a file that `export` wrote.
        out: The folder of the results; None to write them beside the images.
        self_ensemble: Whether to average over the eight flips and rotations of each image, which takes eight times as
            long.
        tile: Height and width of the tiles in which images are enlarged, which bound the memory.
        overlap: Width of the margin that the network sees around each tile.
        replica: Number of the replica.
        agent: An agent's number, or "centroid".
        fresh: Whether to make results anew that are there already; otherwise they are kept, if they are not older than
            their image and have been made by the same network with the same settings.
        device: Where the network computes, such as "cuda".
        shown: Called with the fraction done and the name of the current image.

    Returns:
        What has become of the images; those that cannot be used do not stop the others.

    Raises:
        ExperimentError: The run has no network that enlarges images, there are no images, a file is not there, or a
            setting is impossible.
    """
    if tile < 1:
        raise ExperimentError(f"tile: got {tile}; allowed are 1, 2, …")
    if overlap < 0:
        raise ExperimentError(f"overlap: got {overlap}; allowed are 0, 1, …")
    given = [images] if isinstance(images, str | Path) else images
    network, channels, factor = _network(model, replica, agent)
    paths = [Path(image) for image in given]
    targets = _targets(paths, None if out is None else Path(out), factor)
    left_out = [path for folder in paths if folder.is_dir() for path in left_out_of(folder, but=out)]
    try:
        network.to(device)
    except (AssertionError, RuntimeError) as error:
        allowed = "are cpu, cuda, cuda:1, …" if torch.cuda.is_available() else "is cpu, since torch finds no GPU here"
        raise ExperimentError(f"device: got {device!r}; allowed {allowed}") from error
    software = _SOFTWARE + digest([dict(network.state_dict()), self_ensemble, tile, overlap])
    dtype = next(network.parameters()).dtype
    applied = of_eight_views(lambda x: output_of(network(x))) if self_ensemble else lambda x: output_of(network(x))

    def enlarged(image: Pixels, advanced: Advanced) -> Pixels:
        count = len(image.colour)

        def restored(piece: Tensor) -> Tensor:
            low = piece.to(device, dtype) / 255
            if count == channels:
                high = applied(low)
            elif count == 1:
                high = applied(low.expand(-1, channels, -1, -1)).mean(1, keepdim=True)
            else:
                high = applied(low.transpose(0, 1)).transpose(0, 1)
            if not high.isfinite().all():
                raise ValueError("the network makes pixels of it that are NaN or infinite")
            return to_bytes(high).cpu()

        with torch.no_grad():
            colour = in_tiles(restored, image.colour[None], factor, tile, overlap, advanced=advanced)[0]
        alpha = None if image.alpha is None else enlarge(image.alpha, factor)
        return Pixels(colour, alpha, image.profile, software)

    def is_done(image: Path, made: Path) -> bool:
        if fresh or not made.exists():
            return False
        with suppress(ExperimentError):
            found = read_pixels(made)
            if (found.software or "").startswith(_SOFTWARE):
                return found.software == software and is_current(made, found, image, Fraction(factor))
        raise ExperimentError(
            f"{made} is there and is no result of upscaling; move it, or replace it by --fresh (fresh=True)"
        )

    return replace(change_all(targets, enlarged, is_done, shown), left_out=tuple(left_out))


def _network(model: str | Path, replica: int, agent: int | str) -> tuple[nn.Module, int, int]:
    """Return a network, the channels of its images, and its factor."""
    arguments: Mapping[str, Any]
    if Path(model).is_file():
        if (replica, agent) != (0, "centroid"):
            raise ExperimentError(f"{'agent' if replica == 0 else 'replica'}: {model} holds one network; leave it out")
        network, arguments = read_exported(model)
    else:
        results, run = load_one(model)
        recorded = run.status.get("model")
        arguments = recorded["arguments"] if recorded else results.setup(run).task.model_arguments
        network = results.model(run, replica, agent)
    shape, outputs = arguments["input_shape"], arguments["num_outputs"]
    factor = factor_of(shape, outputs)
    if factor is None or shape[0] not in (1, 3):
        raise ExperimentError(
            f"model: the network of {model} makes {outputs} numbers of inputs of the shape {tuple(shape)}; allowed are"
            " networks that enlarge images, as in a run of super_resolution"
        )
    return network, shape[0], factor


def _to_enlarge(folder: Path) -> list[Path]:
    """List the images of a folder without those that have been enlarged before."""
    return [file for file in pictures_in(folder) if not (software_of(file) or "").startswith(_SOFTWARE)]


def _targets(images: list[Path], out: Path | None, factor: int) -> dict[Path, Path]:
    """Choose where the result of each image is written."""
    if out is not None and out.exists() and not out.is_dir():
        raise ExperimentError(f"out: {out} is a file; choose a folder")
    if gone := next((image for image in images if not image.exists()), None):
        raise ExperimentError(f"images: there is no {gone}")
    files = [file for image in images for file in (_to_enlarge(image) if image.is_dir() else [image])]
    found = {file.resolve(): file for file in files}  # each once

    def target(image: Path) -> Path:
        if out is None or out.resolve() == image.resolve().parent:
            return image.with_name(f"{image.stem}_x{factor}.png")
        return out / f"{image.stem}.png"

    targets = {image: target(image) for image in found.values()}
    made = {result.resolve() for result in targets.values()}
    return {image: result for image, result in targets.items() if image.resolve() not in made}
