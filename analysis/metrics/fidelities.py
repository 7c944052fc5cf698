"""How close restored images are to the true ones, as the challenges of super-resolution score it."""

from typing import Any

from torch import Tensor

from basinet.analysis.metrics.sample_means import SampleMean
from basinet.sim import tasks
from basinet.sim.data.nests import Nest
from basinet.sim.tasks import Task
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.vision.fidelity import fidelity

__all__ = ["PsnrRgb", "PsnrY", "SsimRgb", "SsimY"]


class _Fidelity(SampleMean):
    """A mean over images of their fidelity, in 8 bits and without the border."""

    direction = "larger"

    def values(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Score each image.

        Args:
            outputs: Restored images, [B, 3, height, width].
            batch: Low and high resolution.
            task: The task super_resolution.

        Returns:
            float64 [B]; NaN for an image of which not all pixels are finite.

        Raises:
            ValueError: If the task is another one.
        """
        if not isinstance(task, tasks.SuperResolution):
            raise ValueError(f"{self.name} needs images in high resolution, as those of super_resolution are")
        targets = task.targets(batch)
        restored = fit(output_of(outputs), targets.shape, "the model returns images")
        return fidelity(restored, targets, task.scale, [self.name])[self.name]


class PsnrY(_Fidelity):
    """The peak signal-to-noise ratio of the luma (BT.601, 16 to 235), a mean over images."""

    label, heading, unit = "PSNR of the luma", "PSNR-Y", "dB"


class SsimY(_Fidelity):
    """The structural similarity of the luma (BT.601, 16 to 235), a mean over images."""

    label, heading = "SSIM of the luma", "SSIM-Y"


class PsnrRgb(_Fidelity):
    """The peak signal-to-noise ratio of the three colours together, a mean over images."""

    label, heading, unit = "PSNR of the colours", "PSNR-RGB", "dB"


class SsimRgb(_Fidelity):
    """The mean structural similarity of the three colours, a mean over images."""

    label, heading = "SSIM of the colours", "SSIM-RGB"
