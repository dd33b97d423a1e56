"""Which digit does each image show? Batch inference with a CNN over folders of images.

    import batchdigit
    table = batchdigit.predict("images")             # a pandas.DataFrame, one row for each image
    for predictions in batchdigit.stream("images"):  # batch by batch, for any number of images
        ...

This module is the whole public interface. Names are imported when they are first used, so that
``import batchdigit`` loads neither torch nor pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from batchdigit.version import __version__

if TYPE_CHECKING:
    from batchdigit.api import predict as predict
    from batchdigit.api import stream as stream
    from batchdigit.backends.convert import Conversion as Conversion
    from batchdigit.backends.convert import convert_model as convert_model
    from batchdigit.batches import Failure as Failure
    from batchdigit.batches import Predictions as Predictions
    from batchdigit.errors import AccountingError as AccountingError
    from batchdigit.errors import BatchdigitError as BatchdigitError
    from batchdigit.errors import CheckpointError as CheckpointError
    from batchdigit.errors import DeviceError as DeviceError
    from batchdigit.errors import ExitCode as ExitCode
    from batchdigit.errors import GoneError as GoneError
    from batchdigit.errors import OutputBusyError as OutputBusyError
    from batchdigit.errors import OutputError as OutputError
    from batchdigit.errors import SourceError as SourceError
    from batchdigit.errors import UsageError as UsageError
    from batchdigit.errors import WorkerError as WorkerError
    from batchdigit.job import Job as Job
    from batchdigit.labels import read_labels as read_labels
    from batchdigit.models.checkpoint import Checkpoint as Checkpoint
    from batchdigit.models.checkpoint import load_checkpoint as load_checkpoint
    from batchdigit.models.cnn import CNN as CNN
    from batchdigit.models.inspection import Inspection as Inspection
    from batchdigit.models.inspection import inspect_model as inspect_model
    from batchdigit.models.spec import InputSpec as InputSpec
    from batchdigit.pipeline import run as run
    from batchdigit.reports.dataframe import read_report as read_report
    from batchdigit.reports.summary import RunSummary as RunSummary
    from batchdigit.sources.filenames import escape_filename as escape_filename
    from batchdigit.sources.filenames import unescape_filename as unescape_filename
    from batchdigit.system.tolerance import Tolerance as Tolerance

_EXPORTS = {
    "api": ("predict", "stream"),
    "models.checkpoint": ("Checkpoint", "load_checkpoint"),
    "backends.convert": ("Conversion", "convert_model"),
    "errors": (
        *("AccountingError", "BatchdigitError", "CheckpointError", "DeviceError", "ExitCode"),
        *(
            "GoneError",
            "OutputBusyError",
            "OutputError",
            "SourceError",
            "UsageError",
            "WorkerError",
        ),
    ),
    "sources.filenames": ("escape_filename", "unescape_filename"),
    "models.inspection": ("Inspection", "inspect_model"),
    "reports.dataframe": ("read_report",),
    "reports.summary": ("RunSummary",),
    "labels": ("read_labels",),
    "models.cnn": ("CNN",),
    "models.spec": ("InputSpec",),
    "pipeline": ("run",),
    "job": ("Job",),
    "system.tolerance": ("Tolerance",),
    "batches": ("Failure", "Predictions"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604  (they are all strings)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'batchdigit' has no attribute {name!r}")
    from batchdigit.system.working_folder import importing_elsewhere

    try:
        with importing_elsewhere():
            module = importlib.import_module(f"batchdigit.{_MODULE_OF[name]}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from batchdigit.errors import BatchdigitError

        raise BatchdigitError(
            f"batchdigit.{name} needs PyTorch, which is not installed", "pip install torch"
        ) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
