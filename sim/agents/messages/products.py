"""Products with W: what is combined together travels together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from basinet.sim.agents.messages.mixer import Mixing, mix
from basinet.sim.agents.messages.wire import Wire
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.state import StackedState, interchangeable

__all__ = ["Product", "Products"]


@dataclass(frozen=True)
class Product:
    """A product W x that is to be computed.

    Attributes:
        mixer: W.
        flat: The rows, [N, P].
        result: Receives the product, [N, P].
        x: Is replaced by the product, [N, ...].
        spare: The result, if it may be swapped with `x`.
        error: By how much attackers falsify the product.
        in_place: Whether `x` has to stay where it is in memory, as others hold views of it.
    """

    mixer: Mixing
    flat: Tensor
    result: Tensor
    x: Tensor
    spare: Tensor | None = None
    error: Tensor | None = None
    in_place: bool = False


class Products:
    """Replaces rows by their products with W, several of them with one message per pair of workers.

    Args:
        state: The agents' state.
        personal: The parameters that agents do not share.
        wire: Carries rows to other workers.
    """

    def __init__(self, state: StackedState, personal: Personal, wire: Wire) -> None:
        self._state = state
        self._personal = personal
        self._wire = wire
        self._waiting: list[Product] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Put off what is combined and pushed inside to the end, where all of it travels in one message per worker."""
        if self._waiting is not None:
            yield
            return
        products: list[Product] = []
        self._waiting = products
        try:
            yield
        finally:
            self._waiting = None
        self.compute(products)

    @property
    def spares(self) -> list[Tensor]:
        """The spare tensors of products that are put off."""
        return [product.spare for product in self._waiting or () if product.spare is not None]

    def flat(self, rows: Tensor) -> Tensor:
        """Lay out rows as they travel.

        Args:
            rows: [N, ...].

        Returns:
            [N, w], in the type of the parameters.
        """
        return rows.reshape(len(rows), -1).to(self._state.parameters).contiguous()

    def product(
        self,
        mixer: Mixing,
        x: Tensor,
        flat: Tensor,
        spare: Tensor | None = None,
        error: Tensor | None = None,
        *,
        in_place: bool = False,
    ) -> Product:
        """Describe a product; see `Product`.

        Args:
            mixer: W.
            x: The rows, [N, ...], which are to be replaced.
            flat: Their `flat`.
            spare: A tensor like the parameters that may be swapped with `x`.
            error: By how much attackers falsify the product.
            in_place: Whether `x` has to stay where it is in memory.

        Returns:
            The product.
        """
        result = torch.empty_like(flat) if spare is None else spare
        return Product(mixer, flat, result, x, spare, error, in_place or x is self._state.gradients)

    def compute(self, products: list[Product]) -> None:
        """Replace rows by their products, which all travel together; put that off inside `together`.

        Args:
            products: The products.
        """
        if self._waiting is not None:
            self._waiting += products
            return
        mix([(product.mixer, product.flat, product.result) for product in products], self._wire)
        for product in products:
            self._replace(product)

    def _replace(self, product: Product) -> None:
        """Replace x by what it has been mixed to."""
        x, result = product.x, product.result
        if product.error is not None:
            result += product.error
        self._personal.keep(result, product.flat)
        if x.ndim > 2:
            self._personal.keep(result.view(x.shape), x)
        if product.spare is not None:
            self._state.exchange(x, product.spare)
        elif not product.in_place and interchangeable(x, result):
            x.data = result
        else:
            x.copy_(result.view(x.shape))
