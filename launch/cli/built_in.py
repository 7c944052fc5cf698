"""The experiments that come with Basinet."""

from pathlib import Path

__all__ = ["BUILT_IN"]

BUILT_IN = {file.stem: file for file in sorted((Path(__file__).parents[1] / "experiments").glob("*.yaml"))}
"""Their files by name."""
