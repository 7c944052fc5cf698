"""The samples of the agents: who holds which, how batches are drawn and augmented, and the noise of gradients."""
