"""The options that say which model is meant and what it takes, each named once for all commands.

A command that has them all takes a parameter ``which`` of the type :class:`Which`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from batchdigit.cli.commands import MODEL
from batchdigit.job import MODEL_VARIABLE, default_model
from batchdigit.modelfiles.declaration import (
    LAYOUTS,
    PLACES,
    POLARITIES,
    RANGES,
    SCORES,
    by_options,
)
from batchdigit.system.standard_output import output_kept_apart


def _option(metavar: str | None, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, rich_help_panel=MODEL, help=text, **more)


Model = Annotated[
    Path | None,
    _option(
        "FILE",
        "A model file: a state dict, a whole model, safetensors, ONNX, or a model.toml.  "
        f"[default: ${MODEL_VARIABLE}, else the packaged one]",
        "--model",
        "-m",
        readable=False,
    ),
]
ClassName = Annotated[
    str | None, _option("NAME", "The name of the class of a whole pickled model, if not CNN.")
]
Key = Annotated[
    str | None,
    _option("KEY", "Which of several models in the file: the keys that lead to it, as ema.model."),
]
Network = Annotated[
    str | None,
    _option(
        "FILE.py:CLASS",
        "Your own network: a class, or a function that returns one, in a file, a notebook or an "
        "installed package.module:CLASS. This code runs.",
    ),
]
NetworkArgs = Annotated[
    str | None, _option("JSON", "Arguments for CLASS: an object by name, or a list.")
]
InputSize = Annotated[
    str | None, _option("N|HxW", "The pixels that the network takes.  [default: 28]")
]
Channels = Annotated[str | None, _option("1|3", "Its channels: grey or RGB.  [default: 1]")]
Range = Annotated[
    str | None,
    _option(
        "|".join(RANGES), "The pixels' range before --mean and --std.  [default: 0-1]", "--range"
    ),
]
Mean = Annotated[
    str | None,
    _option("M[,M,M]", "The mean of Normalize in training: the model gets (pixel - M) / S."),
]
Std = Annotated[
    str | None, _option("S[,S,S]", "The standard deviation of Normalize, which goes with --mean.")
]
Expects = Annotated[
    str | None,
    _option("|".join(POLARITIES), "The strokes that it was trained on.  [default: light-on-dark]"),
]
Layout = Annotated[
    str | None, _option("|".join(LAYOUTS), "The order of its input's axes.  [default: nchw]")
]
Transpose = Annotated[
    bool | None,
    _option(None, "It was trained on transposed images, as EMNIST's files hold.", "--transpose"),
]
Place = Annotated[
    str | None,
    _option("|".join(PLACES), "How digits get to another size than 28.  [default: resize]"),
]
Scores = Annotated[
    str | None,
    _option("|".join(SCORES), "What it returns.  [default: auto, by its answers to known digits]"),
]
NoModelCheck = Annotated[
    bool,
    _option(None, "Do not see whether the model reads known digits right.", "--no-model-check"),
]

_FIELDS = {
    "input_size": InputSize,
    "channels": Channels,
    "range": Range,
    "mean": Mean,
    "std": Std,
    "expects": Expects,
    "layout": Layout,
    "transpose": Transpose,
    "place": Place,
    "scores": Scores,
}
_WHICH = {
    "class_name": ClassName,
    "key": Key,
    "network": Network,
    "network_args": NetworkArgs,
    **_FIELDS,
}


class Which:
    """Which model is meant, and what is said of it: the options as they were given."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    @property
    def model(self) -> Path:
        """The model file."""
        return self._given.get("model") or default_model()

    @property
    def runs_code(self) -> bool:
        """Whether code of the user's runs, which may print."""
        return self._given["network"] is not None

    def keywords(self) -> dict[str, Any]:
        """The same as keywords of a :class:`batchdigit.Job`. Raises UsageError."""
        found = dict(self._given)
        if "model" in found:
            found["model"] = self.model
        if found["network_args"] is not None:
            from batchdigit.networks.load import network_arguments

            found["network_args"] = network_arguments(found["network_args"])
        if "no_model_check" in found:
            found["model_check"] = not found.pop("no_model_check")
        return found

    def apart(self) -> dict[str, Any]:
        """The same with what is declared of the input as one ``declaration``. Raises UsageError."""
        found = self.keywords()
        declaration = by_options(found)
        others = {name: value for name, value in found.items() if name not in _FIELDS}
        return others | {"declaration": declaration}


def with_model_options(
    *, model: bool = True, check: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options in the place of its parameter ``which``.

    It has ``--model`` and ``--no-model-check`` unless ``model`` or ``check`` is false.
    """
    options: dict[str, Any] = {"model": Model} if model else {}
    options |= _WHICH
    options |= {"no_model_check": NoModelCheck} if check else {}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(command).parameters.items():
            if name == "which":
                parameters += [
                    inspect.Parameter(
                        option,
                        inspect.Parameter.KEYWORD_ONLY,
                        default=False if option == "no_model_check" else None,
                        annotation=annotation,
                    )
                    for option, annotation in options.items()
                ]
            else:
                kind = inspect.Parameter.KEYWORD_ONLY
                parameters.append(parameter.replace(kind=kind, annotation=hints[name]))

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            which = Which({name: given.pop(name) for name in options})
            with contextlib.ExitStack() as around:
                if which.runs_code:
                    around.enter_context(output_kept_apart())
                    around.enter_context(warnings.catch_warnings())
                    if not given.get("verbose"):  # of his code, which he knows
                        warnings.simplefilter("ignore")
                command(which=which, **given)

        del with_options.__wrapped__  # or its signature would count
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_options

    return decorate
