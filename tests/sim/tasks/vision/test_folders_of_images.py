"""Folders of images as training data: which files count, and what is said of the others."""

import numpy as np
import pytest
from PIL import Image

from basinet.sim.tasks import image_folder, super_resolution


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("make", [image_folder, super_resolution])
def test_all_kinds_of_images_count_and_other_files_are_counted(tmp_path, caplog, make, others):
    images = tmp_path / "images"
    (images / "one").mkdir(parents=True)
    for suffix in (".avif", ".tga", ".jp2", ".jfif", ".pnm", ".PNG"):
        Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(images / "one" / f"a{suffix[1:]}{suffix}")
    for number in range(others):
        (images / "one" / f"{number}.txt").write_text("")
    (images / "one" / ".hidden.txt").write_text("")
    if make is image_folder:
        assert len(image_folder(path=str(images)).columns["folder"]) == 6
    else:
        assert len(super_resolution(path=str(images), patch=8, held_out=0.5).names) == 3
    told = [record.getMessage() for record in caplog.records]
    expected = f"task: files in {images} that are not named like images are left out: {others}"
    assert told == [expected] * bool(others)
