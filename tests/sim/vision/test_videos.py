"""Videos: codecs and decoding are deterministic, distortions grow with their level, bad files make a sentence."""

import os
import struct

import av
import numpy as np
import pytest
import torch
from PIL import Image

from basinet.sim.vision.codecs import CODECS, compressed, encode
from basinet.sim.vision.distortions import DISTORTIONS, REVISION
from basinet.sim.vision.photos import read_photo
from basinet.sim.vision.video_files import evenly_spaced, read_frames


@pytest.fixture(scope="module")
def clip():
    photo = read_photo("astronaut")
    return torch.stack([photo[:, 100 + t : 148 + t, 200 + 2 * t : 247 + 2 * t] for t in range(4)])  # of an odd width


@pytest.fixture(scope="module")
def mp4(clip):
    return encode(clip, "x264", 23)


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_clip_makes_the_same_bytes_and_pixels(clip, codec):
    first = encode(clip, codec, 30)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "other threads have their turn, too"
    used = np.random.default_rng(0).integers(0, 255, 10**6, dtype=np.uint8)  # what was in memory must not matter
    assert encode(clip, codec, 30) == first and len(used)
    frames = read_frames(first)
    assert torch.equal(frames, read_frames(first))
    assert frames.shape == (4, 3, 128, 128)  # codecs get no smaller ones
    assert torch.equal(compressed(clip, codec, 30), frames[:, :, :48, :47])


@pytest.mark.parametrize("codec", CODECS)
def test_clips_of_few_frames_are_compressed(clip, codec):
    for count in (1, 2):
        written = read_frames(encode(clip[:count], codec, 30))
        assert len(written) == max(count, CODECS[codec].fewest)
        assert torch.equal(compressed(clip[:count], codec, 30), written[:count, :, :48, :47])
    assert CODECS["x265"].fewest == 3  # of fewer, some fail, but not each time


def error(changed, clip):
    return (changed.double() - clip).square().mean()


@pytest.mark.parametrize("name", DISTORTIONS)
def test_the_error_grows_with_the_level(clip, name):
    kind = DISTORTIONS[name]
    found = [error(kind.apply(clip, kind.strength(level)), clip) for level in (0.2, 0.6, 1.0)]
    assert 0 < found[0] < found[1] < found[2]


def test_another_filter_has_another_revision(clip):
    """If a filter is changed on purpose, so are the revision and these numbers: caches hold what the old one made."""
    found = {name: error(DISTORTIONS[name].apply(clip, DISTORTIONS[name].strength(0.5)), clip) for name in FILTERED}
    assert REVISION == 1 and found == pytest.approx(FILTERED, rel=0.01)  # pixels may be rounded otherwise


FILTERED = {"blur": 115.8, "denoise": 150.8, "rescale": 129.3, "sharpen": 501.5}
"""Mean squared changes at the level 0.5."""


def test_filters_leave_a_flat_clip_alone():
    flat = torch.full((2, 3, 24, 30), 77, dtype=torch.uint8)
    for name in ("blur", "denoise", "rescale", "sharpen"):
        assert error(DISTORTIONS[name].apply(flat, DISTORTIONS[name].strongest), flat) == 0, name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("mpeg9", 20), "codec is 'mpeg9'"), (("x264", 52), "strength is 52; allowed are 0 to 51")],
)
def test_other_codecs_and_strengths_are_refused(clip, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        encode(clip, *arguments)


def lossless(file, frames, sizes=((17, 31),), share=1.0):
    """Write grey frames that are told apart by their brightness, of an odd size; and keep a share of the file."""
    with av.open(str(file), "w") as container:
        for height, width in sizes:
            stream = container.add_stream("ffv1", rate=30)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv444p"
        for level in range(frames):
            pixels = np.full((*sizes[0], 3), 10 * level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


@pytest.mark.parametrize("ending", ["mkv", "avi"])  # the first does not say how many frames it has
def test_frames_are_evenly_spaced(tmp_path, ending):
    lossless(tmp_path / f"grey.{ending}", 9)
    every = read_frames(tmp_path / f"grey.{ending}")
    assert every.shape == (9, 3, 17, 31)
    assert every[:, 0, 0, 0].tolist() == pytest.approx([10 * level for level in range(9)], abs=1)  # YUV is rounded
    assert torch.equal(read_frames(tmp_path / f"grey.{ending}", 3), every[[1, 4, 7]])
    assert evenly_spaced(9, 9) == [*range(9)]


def test_a_rotated_video_is_turned_upright(mp4):
    """A telephone writes the frames as its sensor sees them, and a matrix that turns them."""
    at = mp4.index(b"tkhd") + 4 + 40
    plain, turned = read_frames(mp4), bytearray(mp4)
    for numbers, quarters in (((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)):
        a, b, c, d = (n << 16 for n in numbers)
        turned[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        assert torch.equal(read_frames(bytes(turned)), plain.rot90(quarters, (2, 3)))


def write_audio(file):
    with av.open(str(file), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))


def damaged(content):
    start = len(content) // 3
    return content[:start] + bytes(255 - byte for byte in content[start : start + 2000]) + content[start + 2000 :]


BAD = {
    "empty.mp4": (lambda file, mp4: file.write_bytes(b""), "it is empty"),
    "text.mp4": (lambda file, mp4: file.write_text("not a video\n" * 50), "cannot be read as a video"),
    "cut.mp4": (lambda file, mp4: file.write_bytes(mp4[: len(mp4) // 2]), "cannot be read as a video"),
    "damaged.mp4": (lambda file, mp4: file.write_bytes(damaged(mp4)), "frame . is damaged"),
    "sound.mkv": (lambda file, mp4: write_audio(file), "holds no video, but audio"),
    "picture.mp4": (
        lambda file, mp4: Image.new("RGB", (20, 20)).save(file, "PNG"),
        "has 1 of the 4 frames that are needed",
    ),
    "short.mkv": (lambda file, mp4: lossless(file, 3), "has 3 of the 4 frames that are needed"),
    "cut.mkv": (lambda file, mp4: lossless(file, 20, share=0.8), "it ends after 0.5.* of 0.66"),
    "missing.mp4": (lambda file, mp4: None, "cannot be read: No such file"),
    "folder.mp4": (lambda file, mp4: file.mkdir(), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_in_one_sentence(tmp_path, mp4, name):
    make, reason = BAD[name]
    make(tmp_path / name, mp4)
    with pytest.raises(ValueError, match=reason) as caught:
        read_frames(tmp_path / name, 4)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
