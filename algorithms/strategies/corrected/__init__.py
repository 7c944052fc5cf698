"""Strategies without the bias of diffusion: agents whose data differ reach the minimum of the mean loss."""
