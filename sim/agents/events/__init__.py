"""The numbers behind the events of asynchronous agents, computed for as many agents at once as can be."""
