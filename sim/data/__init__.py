"""The agents' samples: how they are partitioned, drawn and augmented, and the gradient noise."""
