"""Running an ONNX file of any origin: batches of any size, stopped when the run is.

B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.ahead import computed_ahead
from batchdigit.backends.outputs import Output, scores_in
from batchdigit.backends.trying import Tried, try_network
from batchdigit.errors import BatchdigitError, CheckpointError
from batchdigit.modelfiles.declaration import Declaration
from batchdigit.modelfiles.file import ModelFile
from batchdigit.models.onnx_file import OnnxFile, OnnxValue, read_onnx_file
from batchdigit.models.onnx_shape import check_shape, declared_by
from batchdigit.models.spec import InputSpec

FATAL_ONLY = 4


class Graph:
    """A graph that ONNX Runtime has opened. ``output`` is set once it has been tried."""

    def __init__(
        self, runtime: Any, session: Any, value: OnnxValue, output: Output | None = None
    ) -> None:
        self._runtime = runtime
        self._session = session
        self._value = value
        self._names = [one.name for one in session.get_outputs()]
        self.output = output
        fixed = value.shape[0] if value.shape else None
        self._batch = fixed if isinstance(fixed, int) and fixed > 0 else None

    def options(self) -> Any:
        """What :meth:`outputs` and :meth:`stop` take."""
        options = self._runtime.RunOptions()
        options.log_severity_level = FATAL_ONLY  # it raises what it would print besides
        return options

    def stop(self, options: Any) -> None:
        """End what runs with these options, between two operators."""
        options.terminate = True

    def outputs(self, pixels: NDArray[np.float32], options: Any) -> list[NDArray[Any]]:
        """All that the graph gives for prepared images, or only the scores once it is tried.

        A graph of a fixed batch gets its images in parts of that size, the last one filled up.
        """
        pixels = pixels.astype(self._value.dtype or np.float32, copy=False)
        names = self._names if self.output is None else [self._names[int(self.output.way[0])]]
        if self._batch is None:
            return self._run(names, pixels, options)
        parts = [
            [self._of_images(one, count) for one in part]
            for part, count in self._parts(names, pixels, options)
        ]
        return [
            np.concatenate(arrays) if all(array is not None for array in arrays) else np.empty(0)
            for arrays in zip(*parts, strict=True)
        ]

    def _of_images(self, output: Any, count: int) -> NDArray[Any] | None:
        """An output of a batch for its first images; None for one that has no row for each."""
        has_rows = isinstance(output, np.ndarray) and output.ndim and len(output) == self._batch
        return output[:count] if has_rows else None

    def _parts(
        self, names: list[str], pixels: NDArray[Any], options: Any
    ) -> Iterator[tuple[list[NDArray[Any]], int]]:
        assert self._batch is not None  # noqa: S101
        for start in range(0, len(pixels), self._batch):
            part = pixels[start : start + self._batch]
            filled = np.zeros((self._batch, *part.shape[1:]), part.dtype)
            filled[: len(part)] = part
            yield self._run(names, filled, options), len(part)

    def _run(self, names: list[str], pixels: NDArray[Any], options: Any) -> list[NDArray[Any]]:
        given = {self._value.name: np.ascontiguousarray(pixels)}
        found: list[NDArray[Any]] = self._session.run(names, given, options)
        return found

    def scores(self, pixels: NDArray[np.float32], options: Any) -> NDArray[np.float32]:
        """The scores float32[B, K] of prepared images. Raises OutputError."""
        assert self.output is not None  # noqa: S101  (it has been tried)
        outputs = self.outputs(pixels, options)
        only = Output((0,), self.output.classes)
        scores: NDArray[Any] = scores_in(outputs, only, len(pixels))
        return scores.astype(np.float32, copy=False)


def read_graph(file: ModelFile, declaration: Declaration) -> tuple[OnnxFile, InputSpec]:
    """What is in an ONNX file, and how images are given to it.

    Raises CheckpointError for a file that is refused, UsageError for a declaration that does not
    fit its input.
    """
    found = read_onnx_file(file)
    (value,) = found.inputs
    spec = InputSpec.declared(declaration.over(declared_by(value)))
    check_shape(value, spec)
    return found, spec


def try_graph(graph: Graph, spec: InputSpec, file: ModelFile, labels: int) -> Tried:
    """What the graph returns for known digits. Raises CheckpointError."""

    def forward(images: NDArray[np.uint8]) -> Any:
        options = graph.options()
        pixels = spec.prepare(images.astype(np.float32))
        # In a thread, so that a signal ends even a loop that does not.
        (found,) = computed_ahead(
            lambda one: graph.outputs(one, options), [pixels], 1, stop=lambda: graph.stop(options)
        )
        return found

    try:
        return try_network(forward, spec, str(file.path), labels)
    except BatchdigitError:
        raise
    except Exception as error:  # its exceptions have no common base
        raise CheckpointError(
            f"ONNX Runtime cannot run the model {file.path}: {error}",
            "export it again, or declare its --input-size, --channels and --layout",
        ) from error
