"""The agents: their stacked state, the block that steps them, and the channel between them."""
