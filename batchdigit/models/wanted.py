"""What the weights of a network are called, and how they are shaped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from batchdigit.models.network import COUNTER, Layer, cnn
from batchdigit.models.spec import MNIST

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Wanted:
    """The state dict that a network takes: ``shapes`` by name, in its order.

    ``title`` is how messages call the network. ``layers`` are those of the packaged network, with
    which a whole model's must agree. They are None for a user's own network, whose class computes
    whatever the class in the file did; so a whole model may be of any class.
    """

    title: str
    shapes: Mapping[str, Shape]
    layers: Layer | None = None

    @cached_property
    def names(self) -> frozenset[str]:
        """All names of its state dict."""
        return frozenset(self.shapes)

    @cached_property
    def required(self) -> frozenset[str]:
        """The names that a state dict cannot do without: all but what counts batches."""
        return frozenset(name for name in self.shapes if not name.endswith(COUNTER))

    @cached_property
    def parts(self) -> int:
        """How many parts its longest name has."""
        return max(name.count(".") for name in self.shapes) + 1

    @property
    def types(self) -> tuple[str, ...]:
        """The types that tensors may have besides those of weights: a user's may be whole."""
        return ("int64", "int32", "int16", "int8", "uint8", "bool") if self.is_own else ()

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own network."""
        return self.layers is None

    def of_classes(self, classes: int) -> Wanted:
        """The packaged network with ``classes`` outputs."""
        layers = cnn(MNIST.with_classes(classes))
        return replace(self, shapes=layers.state_shapes(), layers=layers)


THE_CNN = Wanted("the CNN", cnn().state_shapes(), cnn())
