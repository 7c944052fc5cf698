"""What networks of videos begin and end with: a check of the inputs, and scores on the scale of opinions."""

from torch import nn

__all__ = ["check_video", "score_layer"]

_MIDDLE = 3.0
"""The middle of the scale of mean opinion scores, from 1 to 5, where training begins."""


def check_video(name: str, input_shape: tuple[int, ...]) -> None:
    """Raise unless inputs are videos.

    Args:
        name: Name of the model.
        input_shape: Shape of one input.

    Raises:
        ValueError: They are not.
    """
    if len(input_shape) != 4:
        raise ValueError(f"{name} needs inputs of shape (frames, channels, height, width), but got {input_shape}")


def score_layer(width: int, num_outputs: int) -> nn.Linear:
    """Make the last layer, whose scores are around the middle of the scale at first.

    Args:
        width: Number of inputs.
        num_outputs: Number of scores.

    Returns:
        The layer.
    """
    layer = nn.Linear(width, num_outputs)
    nn.init.constant_(layer.bias, _MIDDLE)
    return layer
