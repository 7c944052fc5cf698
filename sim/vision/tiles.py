"""Networks applied to large images tile by tile, in bounded memory."""

from collections.abc import Callable, Iterator

from torch import Tensor

__all__ = ["in_tiles"]


def in_tiles(
    model: Callable[[Tensor], Tensor],
    low: Tensor,
    factor: int,
    tile: int = 256,
    overlap: int = 16,
    *,
    advanced: Callable[[float], object] | None = None,
) -> Tensor:
    """Enlarge an image tile by tile.

    Each tile is enlarged with a margin, which is then cut off. Where the margin holds all that the model sees, the
    result is that of the whole image. Windows of a model whose width divides `tile` and `overlap` lie as in the whole
    image.

    Args:
        model: Enlarges [1, channels, h, w] to [1, channels, factor · h, factor · w].
        low: The image [1, channels, h, w].
        factor: By how much it grows.
        tile: Height and width of a tile in `low`, without its margin.
        overlap: Width of the margin; at the border of the image there is none.
        advanced: Called with the fraction that is done after each tile.

    Returns:
        The enlarged image, of the type and on the device of the model's outputs.

    Raises:
        ValueError: If `tile` or `overlap` is impossible, or the model enlarges by another factor.
    """
    if tile < 1:
        raise ValueError(f"tile: got {tile}; allowed are 1, 2, …")
    if overlap < 0:
        raise ValueError(f"overlap: got {overlap}; allowed are 0, 1, …")
    height, width = low.shape[-2:]
    whole: Tensor | None = None
    for top, bottom, above, below in _spans(height, tile, overlap):
        for left, right, before, behind in _spans(width, tile, overlap):
            piece = model(low[..., above:below, before:behind])
            expected = (factor * (below - above), factor * (behind - before))
            if piece.shape[-2:] != expected:
                raise ValueError(
                    f"the model makes {piece.shape[-2]} × {piece.shape[-1]} pixels of a tile of {below - above} ×"
                    f" {behind - before}, and not {expected[0]} × {expected[1]}"
                )
            if whole is None:
                whole = piece.new_empty((*piece.shape[:-2], factor * height, factor * width))
            rows = slice(factor * (top - above), factor * (bottom - above))
            columns = slice(factor * (left - before), factor * (right - before))
            whole[..., factor * top : factor * bottom, factor * left : factor * right] = piece[..., rows, columns]
            if advanced is not None:
                advanced((top * width + (bottom - top) * right) / (height * width))
    assert whole is not None
    return whole


def _spans(size: int, tile: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Divide a length: where each tile begins and ends, without and with its margin."""
    for begin in range(0, size, tile):
        end = min(begin + tile, size)
        yield begin, end, max(begin - overlap, 0), min(end + overlap, size)
