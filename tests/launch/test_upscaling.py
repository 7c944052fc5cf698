"""Images enlarged by the network of a finished run, and shrunk for it."""

import os
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import basinet
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.launch.cli import main
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.setup.weights import write_weights
from basinet.sim.vision.fidelity import to_bytes
from basinet.sim.vision.picture_files import Pixels, read_pixels, write_pixels
from basinet.sim.vision.picture_folders import shrink_folder
from basinet.sim.vision.resizing import crop_to, enlarge, shrink

RUN = {
    "model": {"name": "residual_upscaler", "features": 4, "blocks": 1},
    "topology": {"name": "ring", "agents": 2},
    "strategy": "isolated",
    "optimizer": {"name": "adam", "lr": 0.02},
    "batch_size": 2,
    "steps": 4,
    "replicas": 1,
    "analysis": [],
    "runtime": {"device": "cpu"},
}


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def carry_out(out, **keys):
    """Carry an experiment out without its report, which takes longer than all else."""
    setups = prepare(basinet.Experiment(RUN | keys), out)
    simulate(setups, out, TerminalMonitor(len(setups), quiet=True), threading.Event(), measure_replica)
    (run,) = basinet.load(out).runs
    return run.path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, whose data are gone."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("a", "b"):
        write_pixels(folder / "images" / f"{name}.png", Pixels(random(3, 96, 96)))
    path = carry_out(folder / "out", task={"name": "super_resolution", "path": str(folder / "images"), "patch": 8})
    shutil.rmtree(folder / "images")
    return path


@pytest.fixture(scope="module")
def network(trained):
    return basinet.load(trained.parent).model(trained.name)


def applied(network, pixels):
    with torch.no_grad():
        return network(pixels[None].float() / 255)[0]


def test_an_image_is_what_the_network_makes_of_it(trained, network, tmp_path):
    image = random(3, 21, 34)
    write_pixels(tmp_path / "a.png", Pixels(image))
    changed = basinet.upscale(tmp_path / "a.png", trained)
    assert changed.written == (tmp_path / "a_x4.png",) and not changed.kept and not changed.failed
    expected = to_bytes(applied(network, image))
    assert torch.equal(read_pixels(tmp_path / "a_x4.png").colour, expected)
    assert not torch.equal(expected, enlarge(image, 4))
    # Its receptive field, 5 pixels to each side, fits into the margin, but sums may be taken in another order.
    basinet.upscale(tmp_path / "a.png", trained, tmp_path / "tiles", tile=9, overlap=6)
    tiled = read_pixels(tmp_path / "tiles" / "a.png").colour
    assert (tiled.int() - expected.int()).abs().max() <= 1
    basinet.upscale([tmp_path / "a.png"], trained, tmp_path / "agent", agent=1)
    assert not torch.equal(read_pixels(tmp_path / "agent" / "a.png").colour, expected)


def test_the_self_ensemble_is_the_mean_over_flips_and_rotations(trained, network, tmp_path):
    image = random(3, 9, 12)
    write_pixels(tmp_path / "a.png", Pixels(image))
    basinet.upscale(tmp_path, trained, tmp_path / "out", self_ensemble=True)
    views = [
        applied(network, image.rot90(k, (1, 2)).flip(axes)).flip(axes).rot90(-k, (1, 2))
        for k in range(4)
        for axes in ([], [2])
    ]
    found = read_pixels(tmp_path / "out" / "a.png").colour
    assert (found.int() - to_bytes(torch.stack(views).mean(0)).int()).abs().max() <= 1


def test_grey_images_stay_grey_and_opacity_is_interpolated(trained, network, tmp_path):
    grey, alpha, colour = random(1, 10, 13), random(1, 10, 13, seed=1), random(3, 10, 13)
    write_pixels(tmp_path / "grey.png", Pixels(grey, alpha))
    write_pixels(tmp_path / "colour.png", Pixels(colour, alpha))
    write_pixels(tmp_path / "one.png", Pixels(colour[:, :1, :1]))
    basinet.upscale(tmp_path, trained, tmp_path / "out")
    found = {name: read_pixels(tmp_path / "out" / f"{name}.png") for name in ("grey", "colour", "one")}
    expected = to_bytes(applied(network, grey.expand(3, -1, -1)).mean(0, keepdim=True))
    assert torch.equal(found["grey"].colour, expected)
    assert torch.equal(found["colour"].colour, to_bytes(applied(network, colour)))
    assert torch.equal(found["grey"].alpha, enlarge(alpha, 4)) and torch.equal(found["colour"].alpha, enlarge(alpha, 4))
    assert found["one"].colour.shape == (3, 4, 4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_an_exported_network_needs_no_run(trained, tmp_path, suffix):
    write_pixels(tmp_path / "a.png", Pixels(random(3, 9, 12)))
    file = tmp_path / f"network{suffix}"
    basinet.export(trained, file, agent=1)
    basinet.upscale(tmp_path / "a.png", file)
    basinet.upscale(tmp_path / "a.png", trained, tmp_path / "out", agent=1)
    assert (tmp_path / "a_x4.png").read_bytes() == (tmp_path / "out" / "a.png").read_bytes()
    with pytest.raises(ExperimentError, match=r"agent: .*network.* holds one network; leave it out"):
        basinet.upscale(tmp_path / "a.png", file, agent=1)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({}, "does not say how its model is made; allowed are files that `basinet export` wrote"),
        ({"made": "{}"}, "does not say how its model is made"),
        (
            {"made": '{"config": {"model": "os:system"}, "recorded": {}}'},
            "is of os:system, which is no model",
        ),
        (
            {
                "made": '{"config": {"model": "residual_upscaler"}, "recorded":'
                ' {"arguments": {"input_shape": [3, 8, 8], "num_outputs": 3072}}}'
            },
            "holds other weights than those of its model: missing",
        ),
    ],
)
def test_a_file_from_elsewhere_is_refused_and_runs_no_code(tmp_path, about, message):
    write_pixels(tmp_path / "a.png", Pixels(random(3, 5, 6)))
    file = tmp_path / "weights.safetensors"
    write_weights({"weight": torch.zeros(1)}, file, about, "file")
    with pytest.raises(ExperimentError, match=message):
        basinet.upscale(tmp_path / "a.png", file)


def test_a_network_of_grey_images_enlarges_colours_one_by_one(tmp_path):
    low, high = torch.rand(8, 1, 6, 6), torch.rand(8, 1, 12, 12)
    data = torch.utils.data.TensorDataset(low, high)
    path = carry_out(tmp_path / "out", task=(data, data))
    network, image = basinet.load(path.parent).model(path.name), random(3, 7, 9)
    write_pixels(tmp_path / "a.png", Pixels(image))
    basinet.upscale(tmp_path / "a.png", path)
    with torch.no_grad():
        expected = to_bytes(network(image[:, None].float() / 255)[:, 0])
    assert torch.equal(read_pixels(tmp_path / "a_x2.png").colour, expected)


def test_what_is_there_is_kept_and_bad_files_do_not_stop_the_others(trained, tmp_path, capsys):
    images = tmp_path / "images"
    for name in ("a", "c"):
        write_pixels(images / f"{name}.png", Pixels(random(3, 5, 6)))
    (images / "b.png").write_text("not an image")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(images / "deep.png")
    command = ["upscale", str(images), str(images), "--model", str(trained), "--quiet"]
    assert main(command) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"written: {images}/a_x4.png, {images}/c_x4.png",
        f"basinet: {images}/b.png cannot be used: cannot identify it as an image",
        f"basinet: {images}/deep.png cannot be used: it has more than 8 bits per channel; save it with 8 bits",
    ]
    assert {file.name for file in images.iterdir()} == {
        *("a.png", "b.png", "c.png", "deep.png"),
        *("a_x4.png", "c_x4.png"),
    }
    (images / "a_x4.png").write_bytes(b"mine")
    for name in ("b", "deep"):
        (images / f"{name}.png").unlink()
    twice = [command[0], f"{images}/c.png", f"{images}/../images", *command[3:], "--out", str(images)]
    assert main(twice) == 1
    kept, failed = capsys.readouterr().err.splitlines()
    assert kept.startswith("kept, since already there: ") and (images / "a_x4.png").read_bytes() == b"mine"
    assert "/a_x4.png is there and is no result of upscaling; move it, or replace it by --fresh (fresh=True)" in failed
    assert main([*command[:2], *command[3:], "--fresh"]) == 0
    assert read_pixels(images / "a_x4.png").colour.shape == (3, 20, 24)
    assert {file.name for file in images.iterdir()} == {"a.png", "c.png", "a_x4.png", "c_x4.png"}


def test_any_image_is_found_in_a_folder_and_what_is_left_out_is_said(trained, tmp_path, capsys):
    """As when it is named; folders in folders are not entered, and the results are no others."""
    images = tmp_path / "images"
    (images / "inner").mkdir(parents=True)
    for suffix in (".avif", ".tga", ".jp2", ".jfif", ".pnm", ".qoi", ".PNG"):
        Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(images / f"a{suffix[1:]}{suffix}")
    for name in ("notes.txt", ".hidden.txt", "inner/b.png"):
        (images / name).write_text("")
    assert main(["upscale", str(images), "--model", str(trained), "--quiet", "--out", str(images / "large")]) == 0
    written, others, folders = capsys.readouterr().err.splitlines()
    assert written.startswith("written: ") and len([*(images / "large").iterdir()]) == 7
    assert others == f"left out, since not named like images: {images}/notes.txt"
    assert folders == f"left out, since folders in folders are not entered: {images}/inner"
    shutil.rmtree(images / "large")
    assert main(["shrink", str(images), str(tmp_path / "small"), "--quiet"]) == 0
    assert capsys.readouterr().err.splitlines()[1:] == [others, folders]


def test_what_is_there_is_kept_as_long_as_it_is_what_would_be_made(trained, tmp_path):
    image, result, given = tmp_path / "a.png", tmp_path / "a_x4.png", {}

    def is_kept(**others):
        given.update(others)
        changed = basinet.upscale(image, trained, **given)
        assert not changed.failed and (changed.kept or changed.written) == (result,)
        return bool(changed.kept)

    write_pixels(image, Pixels(random(3, 5, 6)))
    assert not is_kept() and is_kept()
    for others in ({"agent": 1}, {"self_ensemble": True}, {"tile": 3}, {"overlap": 1}):
        assert not is_kept(**others) and is_kept()
    for pixels, age in ((random(3, 5, 6, seed=1), 0), (random(3, 5, 7), 3600)):  # newer; older, but larger
        write_pixels(image, Pixels(pixels))
        date = result.stat().st_mtime + 1 - age
        os.utime(image, (date, date))
        assert not is_kept()
        assert read_pixels(result).colour.shape == (3, 20, 4 * pixels.shape[2])
        os.utime(result, (date + 1, date + 1))
        assert is_kept()


def test_results_in_a_folder_are_not_enlarged_again(trained, tmp_path):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    write_pixels(folder / "a.png", Pixels(random(3, 5, 6)))
    basinet.upscale(folder, trained)
    assert (folder / "a_x4.png").exists()
    assert basinet.upscale(folder, trained, out=out).written == (out / "a.png",)


def test_pixels_that_are_no_numbers_are_not_written(trained, network, tmp_path):
    from safetensors import safe_open

    write_pixels(tmp_path / "a.png", Pixels(random(3, 5, 6)))
    basinet.export(trained, tmp_path / "network.safetensors")
    with safe_open(tmp_path / "network.safetensors", "pt") as file:
        about = file.metadata()
    broken = {name: weight * torch.nan for name, weight in network.state_dict().items()}
    write_weights(broken, tmp_path / "network.safetensors", about, "file")
    changed = basinet.upscale(tmp_path / "a.png", tmp_path / "network.safetensors")
    assert changed.failed == (
        f"{tmp_path}/a.png cannot be used: the network makes pixels of it that are NaN or infinite",
    )
    assert not changed.written and not (tmp_path / "a_x4.png").exists()


def test_an_interruption_loses_nothing_of_what_was_written(trained, tmp_path):
    for name in ("a", "b"):
        write_pixels(tmp_path / f"{name}.png", Pixels(random(3, 5, 6)))

    def stop(done, name):
        if name == "b.png" and done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        basinet.upscale(tmp_path, trained, tmp_path / "out", shown=stop)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.png"]
    changed = basinet.upscale(tmp_path, trained, tmp_path / "out")
    assert [file.name for file in changed.kept] == ["a.png"] and [file.name for file in changed.written] == ["b.png"]


def test_mistakes_are_named_and_nothing_is_written(trained, tmp_path):
    for name in ("a.png", "a.jpg"):
        write_pixels(tmp_path / name, Pixels(random(3, 5, 6)))
    (tmp_path / "empty").mkdir()
    given = {"images": tmp_path / "a.png", "model": trained}
    for change, message in (
        ({"tile": 0}, "tile: got 0; allowed are 1, 2, …"),
        ({"overlap": -1}, "overlap: got -1; allowed are 0, 1, …"),
        ({"agent": 9}, r"agent: got 9, but .* has 2 agents"),
        ({"device": "gpu9"}, "device: got 'gpu9'; allowed "),
        ({"images": [tmp_path / "a.png", tmp_path / "gone.png"]}, "images: there is no .*gone.png"),
        ({"model": tmp_path}, r"holds no runs"),
        ({"out": tmp_path / "a.png"}, r"out: .*a.png is a file; choose a folder"),
        ({"images": tmp_path / "empty"}, r"empty holds no images \(.avif"),
        ({"images": tmp_path}, r"a.jpg and .*a.png would both be written to .*a_x4.png; rename one of them"),
    ):
        with pytest.raises((ExperimentError, FileNotFoundError), match=message):
            basinet.upscale(**given | change)
    assert {file.name for file in tmp_path.iterdir()} == {"a.png", "a.jpg", "empty"}


def test_a_run_of_something_else_is_refused(tmp_path):
    path = carry_out(tmp_path / "out", task="digits", model="mlp", steps=1)
    write_pixels(tmp_path / "a.png", Pixels(random(3, 5, 6)))
    with pytest.raises(ExperimentError, match=r"makes 10 numbers of inputs of the shape \(1, 8, 8\); allowed are"):
        basinet.upscale(tmp_path / "a.png", path)


def test_a_folder_is_shrunk_and_what_is_right_is_kept(tmp_path, capsys):
    large, small = tmp_path / "HR", tmp_path / "LR" / "X4"
    image, alpha = random(3, 21, 30), random(1, 21, 30)
    write_pixels(large / "0001.png", Pixels(image, alpha))
    write_pixels(large / "0002.png", Pixels(image[:1]))
    write_pixels(large / "0003.png", Pixels(image[:, :3]))
    (large / "readme.txt").write_text("no image")
    assert main(["shrink", str(large), str(small), "--quiet"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"written: {small}/0001x4.png, {small}/0002x4.png",
        f"left out, since not named like images: {large}/readme.txt",
        f"basinet: {large}/0003.png cannot be used: it is smaller than 4 × 4 pixels",
    ]
    found = read_pixels(small / "0001x4.png")
    assert torch.equal(found.colour, shrink(crop_to(image, 4), 4)) and found.colour.shape == (3, 5, 7)
    assert torch.equal(found.alpha, shrink(crop_to(alpha, 4), 4))
    assert torch.equal(read_pixels(small / "0002x4.png").colour, found.colour[:1])
    (large / "0003.png").unlink()
    (small / "0002x4.png").write_text("damaged")
    changed = shrink_folder(large, small)
    assert changed.kept == (small / "0001x4.png",) and changed.written == (small / "0002x4.png",)
    write_pixels(large / "0001.png", Pixels(image[:, :, :16]))
    assert shrink_folder(large, small).written == (small / "0001x4.png",)
    assert shrink_folder(large, small, fresh=True).written == (small / "0001x4.png", small / "0002x4.png")
    with pytest.raises(ExperimentError, match="factor: got 1; allowed are 2, 3"):
        shrink_folder(large, small, 1)
