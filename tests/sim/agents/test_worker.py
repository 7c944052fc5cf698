"""What a worker measures, and in which portions."""

import pytest
import torch
from torch import nn

from basinet.sim.agents.worker import measured_together
from basinet.sim.evaluation.measuring import evaluate_with_gradient
from basinet.sim.models import ResNet
from basinet.sim.tasks import supervised


def test_samples_are_measured_in_portions_whose_activations_have_room():
    """Of a linear layer a pass keeps its inputs alone, which can be counted: 4 bytes each in float32."""
    task = supervised((torch.zeros(10, 8), torch.zeros(10, 3)))
    model = nn.Linear(8, 3)
    # The inputs, and what the squared error keeps: outputs and targets.
    assert 5 <= measured_together(model, task, memory=5 * 4 * (8 + 3 + 3)) <= 7
    assert measured_together(model, task, memory=0) == 1


def test_portions_change_no_measurement():
    images = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    task = supervised((images, torch.arange(12) % 3), (images[:5], torch.arange(5) % 3))
    torch.manual_seed(0)
    model = ResNet((3, 8, 8), 3, norm="batch", widths=[4, 6], blocks=[1, 1]).double().eval()
    assert measured_together(model, task) == 4096
    whole = evaluate_with_gradient(task, model)
    # Losses of the order of one; their difference, the generalization gap, is as exact as they are, not as it is small.
    assert evaluate_with_gradient(task, model, chunk=5) == pytest.approx(whole, rel=1e-12, abs=1e-12)


def test_an_image_of_a_large_network_takes_megabytes():
    """The basic blocks of ResNet-18 keep at least the inputs of 17 convolutions of 3 × 3."""
    task = supervised((torch.zeros(4, 3, 32, 32), torch.tensor([0, 1, 2, 9])))
    inputs = 4 * (3 * 1024 + 5 * 65536 + 4 * 32768 + 4 * 16384 + 3 * 8192)
    memory = 2**31
    assert measured_together(ResNet((3, 32, 32), 10, norm="group").eval(), task, memory) < memory // inputs
