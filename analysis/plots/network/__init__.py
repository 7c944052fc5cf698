"""Figures of the network: its graph, and who computes, sends and waits when."""
