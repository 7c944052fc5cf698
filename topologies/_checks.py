"""Checks that every family of graphs shares."""


def require_agents(num_agents: int, family: str) -> None:
    """Refuse a graph without agents.

    Args:
        num_agents: Number of agents K that was asked for.
        family: Name of the topology, for the message.

    Raises:
        ValueError: If ``num_agents`` is below one.
    """
    if num_agents < 1:
        raise ValueError(f"{family}: num_agents is {num_agents}, but must be at least 1")
