"""The options of ``batchdigit run``, each named once, with the group of the help that it is in.

Their defaults are those of :class:`batchdigit.Job`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchdigit.cli.commands import MESSAGES, READING, REPORT, SPEED, UNATTENDED
from batchdigit.cli.messages import LOG_FORMATS
from batchdigit.job import BACKENDS, MAX_GONE, PRECISIONS
from batchdigit.modelfiles.declaration import PREPROCESSING
from batchdigit.reports.formats import FORMATS

Source = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE", help="Folders of images (read with their subfolders) or image files."
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        readable=False,
        rich_help_panel=REPORT,
        help="The report; - is standard output. A file is replaced once the new one is complete.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        readable=False,
        rich_help_panel=REPORT,
        help="Class names to report instead of numbers: one a line, or JSON.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="|".join(FORMATS),
        rich_help_panel=REPORT,
        help="[default: by the extension of --out, which may add .gz; csv for standard output]",
    ),
]
Topk = Annotated[
    int, typer.Option(metavar="K", rich_help_panel=REPORT, help="Report the K likeliest digits.")
]
Probs = Annotated[
    bool,
    typer.Option("--probs", rich_help_panel=REPORT, help="Add the probability of every digit."),
]
BatchSize = Annotated[
    str,
    typer.Option(
        "--batch-size", "-b", metavar="N|auto", rich_help_panel=SPEED, help="Images in a batch."
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        "-j",
        metavar="N|auto",
        rich_help_panel=SPEED,
        help="Worker processes that read; 0 reads in the main process.",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="|".join(BACKENDS),
        rich_help_panel=SPEED,
        help="What computes; auto is ONNX Runtime on a CPU if it is installed.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps", rich_help_panel=SPEED, help="The device to compute on."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="|".join(PRECISIONS),
        rich_help_panel=SPEED,
        help="What to compute in; auto: lower than fp32 if it is faster and labels stay.",
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(PREPROCESSING),
        rich_help_panel=READING,
        help="Which images to fit: those that don't look like MNIST's, none, or all.  "
        "[default: auto for a network of ten digits, exact for any other]",
    ),
]
ReviewBelow = Annotated[
    float,
    typer.Option(
        metavar="P",
        rich_help_panel=REPORT,
        help="Mark rows with less confidence for a person's review.",
    ),
]
Explain = Annotated[
    bool,
    typer.Option(
        "--explain",
        rich_help_panel=REPORT,
        help="Add columns on what was found: polarity, fitted, ink.",
    ),
]
SaveFitted = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        readable=False,
        rich_help_panel=REPORT,
        help="Save the 28x28 images that the network saw.",
    ),
]
Bom = Annotated[
    bool,
    typer.Option(
        "--bom",
        rich_help_panel=REPORT,
        help="Begin CSV or TSV with a byte order mark, by which Excel knows UTF-8.",
    ),
]
FollowSymlinks = Annotated[
    bool,
    typer.Option(
        "--follow-symlinks",
        rich_help_panel=READING,
        help="Read linked files, and enter linked folders.",
    ),
]
AllowEmpty = Annotated[
    bool,
    typer.Option(
        "--allow-empty",
        rich_help_panel=UNATTENDED,
        help="Where there are no images, write a report without rows.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        rich_help_panel=READING,
        help="Give up on a file after this long; not with --workers 0.",
    ),
]
MaxBytes = Annotated[
    int, typer.Option(metavar="N", rich_help_panel=READING, help="Read no file with more bytes.")
]
MaxPixels = Annotated[
    int,
    typer.Option(metavar="N", rich_help_panel=READING, help="Decode no image with more pixels."),
]
MaxBad = Annotated[
    str,
    typer.Option(
        "--max-bad",
        metavar="N|P%",
        rich_help_panel=UNATTENDED,
        help="Error rows to tolerate before the exit code is 3.",
    ),
]
Update = Annotated[
    bool,
    typer.Option(
        "--update",
        rich_help_panel=UNATTENDED,
        help="Reuse the last report's rows for unchanged files.",
    ),
]
RetryErrors = Annotated[
    bool,
    typer.Option(
        "--retry-errors",
        rich_help_panel=UNATTENDED,
        help="With --update, but do not reuse its error rows.",
    ),
]
MaxGone = Annotated[
    str | None,
    typer.Option(
        "--max-gone",
        metavar="N|P%",
        rich_help_panel=UNATTENDED,
        help="With --update: if more of the last report's files are gone, nothing is published, "
        f"and the exit code is 74.  [default: {MAX_GONE}]",
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        rich_help_panel=UNATTENDED,
        help="Start over instead of continuing a stopped run.",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        rich_help_panel=UNATTENDED,
        help="How long to wait for another run that writes FILE.",
    ),
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        readable=False,
        rich_help_panel=UNATTENDED,
        help="Append all messages to a file.",
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(LOG_FORMATS),
        rich_help_panel=UNATTENDED,
        help=f"The format of --log-file.  [default: {LOG_FORMATS[0]}]",
    ),
]
Metrics = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        readable=False,
        rich_help_panel=UNATTENDED,
        help="Write the outcome for Prometheus' node_exporter.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", rich_help_panel=MESSAGES, help="Print nothing unless something is wrong."
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        rich_help_panel=MESSAGES,
        help="Also print settings, times, and the files left out.",
    ),
]
