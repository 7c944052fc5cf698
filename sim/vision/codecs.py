"""Compression of clips by the usual codecs, at a known strength."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.experiment.digest import digest
from basinet.sim.vision.video_files import av_package, read_frames

__all__ = ["CODECS", "Codec", "codec_settings", "compressed", "encode"]

_SMALLEST = 128
"""Height and width to which smaller clips are enlarged by their mirror images: x264 and x265 read beyond smaller ones,
and then return other bytes each time."""


@dataclass(frozen=True)
class Codec:
    """A codec and its encoder.

    Attributes:
        encoder: Its name in FFmpeg.
        strongest: Largest constant rate factor (CRF), of the worst quality.
        options: Settings of the encoder, for a moderate speed, in one thread.
        fewest: Number of frames up to which shorter clips repeat their last one.
    """

    encoder: str
    strongest: int
    options: Mapping[str, str] = field(default_factory=dict)
    fewest: int = 1


CODECS = {
    # The trees over macroblocks read memory that nobody has written.
    "x264": Codec("libx264", 51, {"preset": "fast", "mbtree": "0"}),
    "x265": Codec(
        "libx265",
        51,
        {"preset": "fast", "x265-params": "pools=none:frame-threads=1:ctu=32:log-level=error"},
        fewest=3,  # of one or two, the times are at random such that MP4 cannot hold them
    ),
    "vp9": Codec("libvpx-vp9", 63, {"deadline": "good", "cpu-used": "5", "row-mt": "0", "b": "0"}),
    "av1": Codec("libsvtav1", 63, {"preset": "9", "svtav1-params": "lp=1"}),
}
"""Codecs by name."""


def codec_settings() -> str:
    """Return a digest of what compressed pixels depend on, besides the strength and the versions of libraries."""
    return digest([_SMALLEST, {name: vars(codec) for name, codec in CODECS.items()}])


def encode(clip: Tensor, codec: str, strength: int) -> bytes:
    """Compress a clip; the same bytes each time.

    Args:
        clip: uint8 [T, 3, H, W]; borders are repeated up to the size that codecs take: even, and 128 or more; and the
            last frame up to their number.
        codec: Name of the codec.
        strength: Its constant rate factor, from 0 on.

    Returns:
        The content of an MP4 file.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: There is no such codec, or its strength is another one.
    """
    if codec not in CODECS:
        raise ValueError(f"codec is {codec!r}; allowed are {', '.join(CODECS)}")
    chosen, av = CODECS[codec], av_package()
    if not 0 <= strength <= chosen.strongest:
        raise ValueError(f"strength is {strength}; allowed are 0 to {chosen.strongest}, the rate factors of {codec}")
    os.environ.setdefault("SVT_LOG", "1")  # or SVT-AV1 tells of itself on the standard error output
    frames, file = _padded(clip.permute(0, 2, 3, 1).numpy(), chosen.fewest), io.BytesIO()
    with _same_priority(), av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(chosen.encoder, rate=30, options={"crf": str(strength), **chosen.options})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


@contextmanager
def _same_priority() -> Iterator[None]:
    """Restore how this thread is scheduled: where it may, SVT-AV1 gives it priority over all others, for good."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def compressed(clip: Tensor, codec: str, strength: int) -> Tensor:
    """Compress a clip and decode it.

    Args:
        clip: uint8 [T, 3, H, W].
        codec: Name of the codec.
        strength: Its constant rate factor.

    Returns:
        uint8 [T, 3, H, W].
    """
    count, _, height, width = clip.shape
    return read_frames(encode(clip, codec, strength))[:count, :, :height, :width].contiguous()


def _padded(frames: NDArray[np.uint8], fewest: int) -> NDArray[np.uint8]:
    """Repeat the last frame, and the borders of all, until the codecs take frames [T, H, W, 3]."""
    missing = [max(_SMALLEST, size + size % 2) - size for size in frames.shape[1:3]]
    short = max(0, fewest - len(frames))
    padded = np.pad(frames, ((0, short), *((0, more) for more in missing), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(padded)
