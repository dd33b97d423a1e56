"""``batchdigit train``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from batchdigit.cli.lines import training_lines
from batchdigit.cli.model_options import ClassName, Key
from batchdigit.cli.options import (
    ForceOption,
    ParentsOption,
    exit_codes,
    log,
)
from batchdigit.cli.process import command
from batchdigit.errors import ExitCode
from batchdigit.modelfiles.declaration import PREPROCESSING
from batchdigit.system.imports import loading
from batchdigit.system.parents import parents_made
from batchdigit.system.progress import show_progress
from batchdigit.training.job import TrainJob

TRAIN_EXIT_CODES = exit_codes(
    ExitCode.MODEL_REFUSED, ExitCode.NO_IMAGES, ExitCode.CANNOT_WRITE, OK="the model is written"
)
TRAIN = TrainJob(data=Path("DIR"), out=Path("FILE"))  # the defaults, for --help


def train(
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            readable=False,
            help="A folder with MNIST (in MNIST/raw), or labelled images in subfolders 0 to 9.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", readable=False, help="The state dict to write."
        ),
    ],
    force: ForceOption = TRAIN.force,
    parents: ParentsOption = False,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch MNIST into DIR.")
    ] = TRAIN.download,
    epochs: Annotated[
        int, typer.Option(metavar="N", help="Passes over the training images.")
    ] = TRAIN.epochs,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", metavar="N", help="Images in a batch.")
    ] = TRAIN.batch_size,
    learning_rate: Annotated[
        float, typer.Option(metavar="RATE", help="The peak rate of the one-cycle schedule.")
    ] = TRAIN.learning_rate,
    augment: Annotated[
        bool, typer.Option(help="Turn, shift, scale, shear and distort the images slightly.")
    ] = TRAIN.augment,
    variants: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Variants of each image, in other hands and on other paper, to train on too.",
        ),
    ] = TRAIN.variants,
    preprocess: Annotated[
        str,
        typer.Option(
            metavar="|".join(PREPROCESSING),
            help="The --preprocess that the model will be run with.",
        ),
    ] = TRAIN.preprocess,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="A model to start from instead of random weights."
        ),
    ] = TRAIN.start,
    class_name: ClassName = TRAIN.class_name,
    key: Key = TRAIN.key,
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same seed gives the same weights.")
    ] = TRAIN.seed,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="The device to compute on.")
    ] = TRAIN.device,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of resuming FILE.resume.")
    ] = TRAIN.fresh,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Train the CNN on labelled digits and write its weights.

    Some training images are held out to choose the best epoch. The test images are used once, at
    the end. If training is stopped, the same command resumes after its last whole epoch.
    """
    after_signal = f"{out} is as it was; the same command resumes after the last whole epoch"
    with command(after_signal, quiet=quiet) as ending:
        job = TrainJob(
            data=data,
            out=out,
            force=force,
            download=download,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            augment=augment,
            variants=variants,
            preprocess=preprocess,
            start=start,
            class_name=class_name,
            key=key,
            seed=seed,
            device=device,
            fresh=fresh,
        )
        with loading("PyTorch", "torch"):
            from batchdigit.training import train as training  # torch takes seconds to import

        with (
            parents_made(out, wanted=parents),
            show_progress(sys.stderr, quiet=quiet, unit="batches") as progress,
        ):
            summary = training.train(
                job,
                on_progress=progress,
                on_epoch=lambda epoch, score: progress.say(
                    f"epoch {epoch} of {job.epochs}: validation {score.accuracy:.2%}, "
                    f"loss {score.loss:.5f}"
                ),
            )
        ending.after_signal = "the training is complete"
        log(logging.INFO, training_lines(summary, job))
