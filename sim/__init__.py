"""The simulator: experiment, agents, tasks, models, engines, runtime, run folder."""
