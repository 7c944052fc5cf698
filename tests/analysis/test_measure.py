"""What is measured of a run: the right point, and at it what the Hessian's own tests hold right."""

import torch

from basinet.analysis.measure import _points


def test_the_centroid_of_agents_that_agree_is_their_value(make_block):
    block = make_block(model={"name": "mlp", "hidden": [6], "norm": "batch"}, topology={"name": "star", "agents": 6})
    block.advance(7)
    block.state.parameters.copy_(block.x[0].expand_as(block.x).clone())
    state = block.state_dict()
    ((_, parameters, buffers),) = _points(block.setup, state, 1)
    assert torch.equal(parameters, block.x[6])
    counters = [value for name, value in buffers.items() if name.endswith("num_batches_tracked")]
    assert counters and all(value == 7 and value.dtype == torch.int64 for value in counters)
