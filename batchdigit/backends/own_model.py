"""A user's own network in PyTorch: his class with the weights of a file, or a module in memory."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from batchdigit.backends.outputs import Output, OutputError, choose_output
from batchdigit.backends.trying import Tried, takes_other, try_network
from batchdigit.errors import CheckpointError, UsageError
from batchdigit.job import Job, is_packaged
from batchdigit.modelfiles.file import ONNX, ModelFile
from batchdigit.models.checkpoint import tensors_of
from batchdigit.models.spec import InputSpec
from batchdigit.models.wanted import Wanted
from batchdigit.models.weights import read_weights

if TYPE_CHECKING:
    from batchdigit.networks.load import OwnNetwork

ANYTHING = (Exception, SystemExit)
"""What code of the user's may raise."""
MISFITS = (RuntimeError, ValueError, LookupError)
"""What layers raise for images of another shape."""
Refusal = Callable[[BaseException], CheckpointError]
"""What an exception of the user's code is for this program."""


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A network that is the user's own, in ``eval()`` mode on the CPU, and where it comes from.

    ``state`` are its weights in the precision of their file. ``output`` says where in what it
    returns the scores are; ``spec`` what kind of scores. ``adds_up`` says whether its probabilities
    do. ``source`` is the SHA-256 of its code, or empty.
    """

    module: torch.nn.Module
    state: Mapping[str, Any]
    spec: InputSpec
    output: Output
    adds_up: bool
    name: str
    sha256: str
    source: str
    kind: str
    format: str
    refusal: Refusal
    key: str = ""
    unknown: tuple[str, ...] = ()
    carried: None = None

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return self.spec.classes

    @property
    def identity(self) -> str:
        """What tells it from others: weights, code, and which of several models in the file."""
        return " ".join(filter(None, [self.sha256, self.source, self.key]))


def own_model(file: ModelFile | None, job: Job) -> OwnModel:
    """The network that ``job`` names, with the weights in ``file``; or the module that it holds.

    Raises CheckpointError, or UsageError where the options make no sense.
    """
    spec = InputSpec.declared(job.declaration)
    network = None
    if file is None:
        model = _in_memory(job.module, spec)
    else:
        if file.format == ONNX:
            raise UsageError(
                f"{file.path} is an ONNX file, which holds its own network", "leave --network off"
            )
        network = _network(job)
        model = _with_weights(network, file, job, spec)
    from batchdigit.networks.building import undisturbed

    with undisturbed():
        tried = _tried(model, len(job.labels))
    found = replace(spec, scores=tried.scores, classes=tried.output.classes)
    if network is not None:
        source = network.sha256  # with what forward() imported
    else:  # what it computes may depend on more than its weights and the code of its classes
        source = hashlib.sha256(f"{model.source} {tried.answers}".encode()).hexdigest()
    return replace(model, spec=found, output=tried.output, adds_up=tried.adds_up, source=source)


def wanted_by(job: Job) -> Wanted:
    """The state dict that the network of ``job`` takes. Raises CheckpointError or UsageError."""
    return _wanted(_network(job), InputSpec.declared(job.declaration))


def _network(job: Job) -> OwnNetwork:
    from batchdigit.networks.load import load_network  # the packaged model does without
    from batchdigit.networks.naming import NetworkName

    return load_network(NetworkName.parse(job.network or ""), job.network_args)


def _with_weights(network: OwnNetwork, file: ModelFile, job: Job, spec: InputSpec) -> OwnModel:
    wanted = _wanted(network, spec)
    try:
        weights = read_weights(file, job.class_name, job.key, wanted)
    except CheckpointError as error:
        if not is_packaged(job.model):
            raise
        raise UsageError(
            f"--network {network.name} does not take the packaged weights",
            "give --model the file of its own",
        ) from error
    state = tensors_of(weights)
    try:
        network.module.load_state_dict(state, strict=False)
    except ANYTHING as error:  # whatever hooks of the user's raise
        raise file.refusal(
            f"does not go into {wanted.title}: {network.refusal(error).problem}",
            "give the class that it was saved from",
        ) from error
    return OwnModel(
        module=network.module,
        state=state,
        spec=spec,
        output=Output((), spec.classes),
        adds_up=True,
        name=network.name,
        sha256=weights.sha256,
        source="",
        kind=weights.kind,
        format=weights.format,
        refusal=network.refusal,
        key=weights.key,
        unknown=weights.unknown,
    )


def _wanted(network: OwnNetwork, spec: InputSpec) -> Wanted:
    """What the state dict of a network is like."""
    module = network.module
    tensors = [*module.parameters(), *module.buffers()]
    if any(map(torch.nn.parameter.is_lazy, tensors)):  # which get their shapes from an image
        from batchdigit.networks.building import undisturbed

        pixels = torch.zeros(2, *spec.shape)
        try:
            with undisturbed(), torch.inference_mode():
                module(spec.prepare(pixels))
        except ANYTHING as error:
            raise CheckpointError(
                network.refusal(error).problem,
                "its lazy layers take their sizes from an image, so declare the input by "
                "--input-size, --channels, --layout",
            ) from error
    shapes = {
        name: tuple(value.shape)
        for name, value in module.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    if not shapes:
        raise CheckpointError(
            f"the network {network.name} has no weights to load", "name the class of the model"
        )
    return Wanted(f"the network {network.name}", shapes)


def _in_memory(module: Any, spec: InputSpec) -> OwnModel:
    name = type(module).__name__
    if any(map(torch.nn.parameter.is_lazy, [*module.parameters(), *module.buffers()])):
        raise CheckpointError(
            f"the module {name} has lazy layers, which do not know their sizes yet",
            "call it once with images",
        )
    try:
        own = copy.deepcopy(module).cpu().float().eval().requires_grad_(requires_grad=False)
        state = own.state_dict()
    except ANYTHING as error:
        raise CheckpointError(
            f"the module {name} cannot be copied: {type(error).__name__}: {error}",
            "save its state_dict(), and give that file and --network",
        ) from error
    return OwnModel(
        module=own,
        state=state,
        spec=spec,
        output=Output((), spec.classes),
        adds_up=True,
        name=name,
        sha256=_digest(state),
        source=hashlib.sha256("\n".join([repr(own), *_code(own)]).encode()).hexdigest(),
        kind=f"module {type(module).__module__}.{type(module).__qualname__}",
        format="in memory",
        refusal=lambda error: CheckpointError(
            f"the module {name} raises {type(error).__name__}: {error}", "mend its forward()"
        ),
    )


def _code(module: torch.nn.Module) -> Iterator[str]:
    """The code of the classes that a module is made of, as Python runs it; not PyTorch's own.

    Their source may be gone, and Python's parser is not to be used in several threads at once.
    """
    kinds = {base for part in module.modules() for base in type(part).__mro__}
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] not in ("torch", "builtins")]
    for kind in sorted(own, key=lambda one: f"{one.__module__}.{one.__qualname__}"):
        for name, value in sorted(vars(kind).items()):
            function = getattr(value, "__func__", value)  # of a static or a class method
            if isinstance(function, FunctionType):
                yield f"{kind.__qualname__}.{name} {_compiled(function.__code__)}"


def _compiled(code: CodeType) -> str:
    constants = [
        _compiled(one) if isinstance(one, CodeType) else _ordered(one) for one in code.co_consts
    ]
    return repr((code.co_code, code.co_names, constants))


def _ordered(constant: Any) -> str:
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _digest(state: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().view(torch.uint8).numpy().tobytes() if value.dim()
                          else str(value.item()).encode())  # fmt: skip
    return digest.hexdigest()


def _tried(model: OwnModel, labels: int) -> Tried:
    """What the network was found to return. It is left as it is: a copy may count its images."""
    module = _copied(model)
    torch.set_num_threads(1)  # others would be there when worker processes are forked

    def forward(images: NDArray[np.uint8], spec: InputSpec = model.spec) -> Any:
        with torch.inference_mode():
            return _to_cpu(module(spec.prepare(torch.from_numpy(images).float())))

    def classes(spec: InputSpec, count: int = 2) -> int:
        images = np.zeros((count, 1, *spec.plane), np.uint8)
        try:
            return choose_output(forward(images, spec), count, labels).classes
        except ANYTHING:
            return 0

    try:
        return try_network(forward, model.spec, model.name, labels)
    except CheckpointError as error:
        if not isinstance(error.__cause__, OutputError):
            raise
        wanted = labels or model.spec.classes
        raise takes_other(
            error.problem, error.remedy, lambda spec: classes(spec) == wanted, model.spec
        ) from error
    except UsageError:
        raise
    except ANYTHING as error:
        said = model.refusal(error)
        if classes(model.spec):
            raise CheckpointError(
                f"the network {model.name} takes several images, but not every number: "
                f"{said.problem}",
                "let forward() take one image or many, and BatchNorm use what it learnt",
            ) from error
        shape = list(model.spec.prepared_shape)
        problem = f"the network {model.name} cannot take images of {shape}: {said.problem}"
        remedy = said.remedy
        if isinstance(error, MISFITS) and not isinstance(error, NotImplementedError):
            remedy += ", or declare its --input-size, --channels and --layout"
        raise takes_other(
            problem, remedy, lambda spec: bool(classes(spec) and classes(spec, 1)), model.spec
        ) from error


def _copied(model: OwnModel) -> torch.nn.Module:
    try:
        return copy.deepcopy(model.module)
    except ANYTHING as error:
        raise CheckpointError(
            f"the network {model.name} cannot be copied for each thread: "
            f"{type(error).__name__}: {error}",
            "let it hold layers and numbers, but no locks, open files or generators",
        ) from error


def _to_cpu(outputs: Any) -> Any:
    """The same, its tensors as single precision in main memory."""
    if isinstance(outputs, torch.Tensor):
        return outputs.detach().float().cpu()
    if isinstance(outputs, Mapping):
        return {name: _to_cpu(part) for name, part in outputs.items()}
    if isinstance(outputs, list | tuple):
        return [_to_cpu(part) for part in outputs]
    return outputs
