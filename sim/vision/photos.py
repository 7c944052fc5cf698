"""Photos that are part of scikit-image and scikit-learn."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from basinet.sim.experiment.mistakes import nearest
from basinet.sim.vision.picture_files import read_pixels

__all__ = ["PHOTOS", "Photo", "motif", "photo_file", "read_photo", "shipped_file"]


@dataclass(frozen=True)
class Photo:
    """A photo.

    Attributes:
        scene: What it shows; photos of one scene resemble each other.
        package: The package that it is part of, by its import name.
        place: Its file in the package.
    """

    scene: str
    package: str
    place: str


def _scikit_image(scene: str, **files: str) -> dict[str, Photo]:
    return {name: Photo(scene, "skimage", f"data/{file}") for name, file in files.items()}


def _scikit_learn(scene: str, **files: str) -> dict[str, Photo]:
    return {name: Photo(scene, "sklearn", f"datasets/images/{file}") for name, file in files.items()}


PHOTOS: dict[str, Photo] = {
    **_scikit_image("people", astronaut="astronaut.png", camera="camera.png"),
    **_scikit_image("animals", chelsea="chelsea.png"),
    **_scikit_image("objects", coffee="coffee.png", coins="coins.png", clock="clock_motion.png"),
    **_scikit_image("workshop", motorcycle_left="motorcycle_left.png", motorcycle_right="motorcycle_right.png"),
    **_scikit_image("texture", brick="brick.png", grass="grass.png", gravel="gravel.png"),
    **_scikit_image("sky", hubble="hubble_deep_field.jpg", moon="moon.png", rocket="rocket.jpg"),
    **_scikit_image("medicine", cell="cell.png", ihc="ihc.png", retina="retina.jpg"),
    **_scikit_image("text", page="page.png", text="text.png"),
    **_scikit_learn("buildings", china="china.jpg"),
    **_scikit_learn("plants", flower="flower.jpg"),
}
"""The photos by name. `motorcycle_left` and `motorcycle_right` show the same; `china` and `flower` are under CC BY 2.0,
the others in the public domain or without known restrictions."""

_MOTIFS = {"motorcycle_left": "motorcycle", "motorcycle_right": "motorcycle"}


def motif(name: str) -> str:
    """Return what a photo shows.

    Args:
        name: Its name in `PHOTOS`.

    Returns:
        A word that is the same for photos of the same; of most photos, their name.
    """
    return _MOTIFS.get(name, name)


def photo_file(name: str) -> Path:
    """Find the file of a photo.

    Args:
        name: Its name in `PHOTOS`.

    Returns:
        The file, in the package that the photo is part of.

    Raises:
        ValueError: There is no such photo.
        ImportError: Its package is not installed.
    """
    photo = PHOTOS.get(name)
    if photo is None:
        raise ValueError(f"there is no photo '{name}'; {nearest(name, PHOTOS)}")
    return shipped_file(photo.package, photo.place, f"the photo {name}")


def shipped_file(package: str, place: str, what: str, install: str = '"basinet[vision]"') -> Path:
    """Find a file that is part of a package, which is not imported.

    Args:
        package: The package, by its import name.
        place: The file in the package.
        what: What to call what is in it.
        install: What pip is told to install the package.

    Returns:
        The file.

    Raises:
        ImportError: The package is not installed.
    """
    found = find_spec(package)  # located, since importing it would take longer than reading the file
    if found is None or found.origin is None:
        raise ImportError(f"{what} is part of the package {package}: pip install {install}")
    return Path(found.origin).parent / place


def read_photo(name: str) -> Tensor:
    """Read one of the photos.

    Args:
        name: Its name in `PHOTOS`.

    Returns:
        uint8 [3, height, width]; grey ones have three equal channels.

    Raises:
        ValueError: There is no such photo.
        ImportError: Its package is not installed.
    """
    return read_pixels(photo_file(name)).colour.expand(3, -1, -1)
