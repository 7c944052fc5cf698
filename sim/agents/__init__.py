"""The agents: their stacked state, the block that steps them, and what travels between them."""
