"""What a run keeps of what its task has made of the data."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Kept", "identities", "made_otherwise"]


class Kept(NamedTuple):
    """What a setting of a task has made of the data, such as a vocabulary, without which the model means nothing.

    Attributes:
        identity: A digest, by which later uses of the model are checked.
        content: The content of a file that may be given for the setting, so that the same is made of other data; None
            if all data have the same made of them.
    """

    identity: str
    content: str | None = None


def identities(kept: Mapping[str, Kept]) -> dict[str, str]:
    """Return what a run records of what it keeps.

    Args:
        kept: What is kept, by the setting of the task.

    Returns:
        The identities.
    """
    return {setting: part.identity for setting, part in kept.items()}


def made_otherwise(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Compare what tasks have made of their data, as far as it is known of both.

    Args:
        recorded: Identities, by the setting of the task.
        here: Other ones.

    Returns:
        The settings in which they differ.
    """
    return [setting for setting, identity in here.items() if recorded.get(setting, identity) != identity]
