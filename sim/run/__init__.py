"""A run on its way: its steps, its folder, and how it goes on after an interruption."""
