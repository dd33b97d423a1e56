"""Outcomes as lines of text for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from batchdigit.errors import ExitCode, one_line
from batchdigit.job import Job
from batchdigit.modelfiles.declaration import DARK_ON_LIGHT, GIVEN_AS, POLARITIES
from batchdigit.places import STDOUT
from batchdigit.reports.summary import RunSummary
from batchdigit.sources.endings import left_out
from batchdigit.sources.filenames import escape_filename
from batchdigit.system.words import counted

if TYPE_CHECKING:
    from batchdigit.backends.convert import Conversion
    from batchdigit.backends.known_digits import KnownDigits
    from batchdigit.doctor.declaring import Tried
    from batchdigit.models.inspection import Inspection
    from batchdigit.training.job import TrainJob
    from batchdigit.training.train import TrainSummary

MAX_FOLDERS = 3


def run_lines(summary: RunSummary, job: Job) -> Iterator[str]:
    """How many images there were, how fast they were done, and where the report is."""
    failures = ", ".join(f"{count} {stage}" for stage, count in summary.failures_by_stage.items())
    reused = f"{summary.reused} reused + " if summary.update else ""
    yield (
        f"{counted(summary.found, 'image')} found = {summary.predicted} predicted + {reused}"
        f"{summary.failed} failed" + (f" ({failures})" if failures else "")
    )
    if summary.first_failures and summary.exit_code is ExitCode.OK:
        yield f"errors: {_error_rows(summary)}"
    if summary.update:
        counts = ", ".join(f"{count} {name}" for name, count in summary.update.items())
        yield f"since the last report: {counts}"
    if summary.to_review:
        yield f"{counted(summary.to_review, 'prediction')} to review (the column needs_review)"
    if summary.more_pages:
        have = counted(summary.more_pages, "file has", "files have")
        yield f"{have} more pages than the first, which alone was read"
    if summary.fitted:
        yield _fitted(summary)
    where = "" if job.out == STDOUT else f"; report in {job.out}"
    yield (
        f"{summary.seconds['total']:.1f} s, {summary.images_per_second:.0f} images/s "
        f"on {summary.device} by {summary.backend}{where}"
    )
    if job.precision != "fp32":
        yield _precision(summary.account["computed"])
    yield from _scores(summary, job)
    if said := left_out(summary.left_out):
        yield f"{said} (--verbose names them)"


def _fitted(summary: RunSummary) -> str:
    line = f"{counted(summary.fitted, 'image was', 'images were')} fitted"
    if summary.dark_on_light == summary.fitted:
        return f"{line}: dark ink on a light ground"
    if summary.dark_on_light:
        return f"{line}, {summary.dark_on_light} of them dark ink on a light ground"
    return line


def _scores(summary: RunSummary, job: Job) -> Iterator[str]:
    """What the output of a network was taken for, where nobody said it and it is not the usual."""
    model = summary.account.get("model", {})  # an engine may have none
    scores = model.get("scores", "logits")
    if job.scores in (None, "auto") and scores != "logits":
        yield f"the network's output was taken for {scores}"
    if not model.get("adds_up", True):
        yield "its probabilities don't add up to 1, and are reported as they are"


def _precision(computed: Mapping[str, Any]) -> str:
    line = f"computed in {computed['precision']}"
    if (flips := computed.get("label_flips_in_1000")) is None:
        return line
    if computed["precision"] == "fp32":
        return f"{line}: a lower precision would change the labels of {flips} of 1000 digits"
    get = "gets" if flips == 1 else "get"
    return f"{line}: {flips} of 1000 digits {get} a different label than in fp32"


def run_details(summary: RunSummary) -> Iterator[str]:
    """Files that were left out, settings, and seconds by stage."""
    for name in summary.ignored:
        yield f"left out: {escape_filename(name)}"
    if by := summary.account.get("model", {}).get("declared_by"):
        yield f"the input is declared by {', '.join(by)}"
    settings = summary.account["computed"] | summary.account["reader"]
    yield "settings: " + ", ".join(f"{key} {value}" for key, value in settings.items())
    times = summary.seconds.items()
    yield "seconds: " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in times)


def run_warnings(summary: RunSummary, job: Job) -> Iterator[str]:
    """What a person should look at after a finished run."""
    blank = [note for note in summary.notes if note.kind == "blank"]
    if blank:
        named = [f"{note.folder} ({note.count} of {note.images})" for note in blank[:MAX_FOLDERS]]
        if more := len(blank) - len(named):
            named.append(counted(more, "more folder"))
        yield f"nearly all images are blank in {', '.join(named)}; look at some of them"
    if _reads_dark_strokes(summary):
        return
    # Those that a network of dark strokes takes are no matter of concern.
    expects = summary.account.get("model", {}).get("expects")
    number = summary.dark_on_light if expects != DARK_ON_LIGHT else 0
    dark = number, "dark ink on a light ground"
    if job.preprocess == "exact":
        for number, looks in (dark, (summary.faint, "fainter than any of MNIST's")):
            if number:
                yield (
                    f"{counted(number, 'image is', 'images are')} {looks}, which "
                    "--preprocess exact leaves so; leave it off unless the model was trained on "
                    "such images"
                )
    elif _is_read_exactly(summary) and 2 * dark[0] > summary.predicted + summary.reused:
        yield (
            f"{counted(dark[0], 'image is', 'images are')} {dark[1]}, which is left so for a "
            "network of other things than digits; if it was trained on light strokes, "
            "--preprocess auto turns and fits them"
        )


def _is_read_exactly(summary: RunSummary) -> bool:
    """Whether grey images were read as they are because of the model."""
    made_by = summary.account
    one_channel = made_by.get("model", {}).get("channels") == 1
    return bool(one_channel and made_by["options"].get("preprocess") == "exact")


def _reads_dark_strokes(summary: RunSummary) -> bool:
    """Whether the model was found to read dark strokes on a light ground."""
    known = summary.account.get("model", {}).get("known_digits")  # an engine may have none
    return bool(known and known["dark_on_light"])


def wrong_side(summary: RunSummary) -> Iterator[str]:
    """What is wrong where images, read exactly as they are, are not of the model's polarity."""
    light = summary.predicted + summary.reused - summary.dark_on_light
    if _reads_dark_strokes(summary) and light > summary.dark_on_light:
        (other,) = {*POLARITIES} - {summary.account["model"]["expects"]}
        yield (
            f"{counted(light, 'image is', 'images are')} light on a dark ground, but the model "
            f"reads dark strokes on a light ground; give {GIVEN_AS['expects']} {other}"
        )


def run_complaints(summary: RunSummary, job: Job) -> Iterator[str]:
    """What is wrong with a finished run."""
    if summary.exit_code is ExitCode.BAD_IMAGES:
        errors = "is an error" if summary.failed == 1 else "are errors"
        yield (
            f"{summary.failed} of {counted(summary.found, 'row')} {errors}, more than --max-bad "
            f"{job.max_bad} tolerates: {_error_rows(summary)}; see the column error"
        )


def _error_rows(summary: RunSummary) -> str:
    """The first images that failed, each with its reason, and how many more there are."""
    named = [f"{one_line(row.filename, 100)} ({row.error})" for row in summary.first_failures]
    more = summary.failed - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def training_lines(summary: TrainSummary, job: TrainJob) -> Iterator[str]:
    """The epoch that was kept, its scores, and where its weights are."""
    yield f"kept epoch {summary.epoch} of {job.epochs}, which has the lowest validation loss"
    for name, score in (("validation", summary.validation), ("test", summary.test)):
        yield f"{name}: {score.accuracy:.2%} ({score.errors} of {score.images} wrong)"
    yield f"weights in {job.out}, settings and scores in {job.out}.train.json"


def inspection_lines(inspection: Inspection, known: KnownDigits | None = None) -> Iterator[str]:
    """A model file on one page: what it is, its tensors, and what its pickles name."""
    values = {True: "yes", False: "no", None: "not checked"}
    facts = {
        "format": inspection.format,
        "kind": inspection.kind or "no weights found",
        **({"keys": ", ".join(inspection.keys)} if inspection.keys else {}),
        "size": counted(inspection.size, "byte", separator=","),
        "sha256": inspection.sha256,
        "parameters": f"{inspection.parameters:,}",
        "classes": inspection.classes or "unknown",
        "finite": values[inspection.finite],
        "checksums": "right" if inspection.checksums else "none",
        **({"known digits": f"{known.right} of {known.of} read right"} if known else {}),
        **{f"input {number}": text for number, text in enumerate(inspection.inputs)},
        **{f"output {number}": text for number, text in enumerate(inspection.outputs)},
        **({"operators": _operators(inspection.operators)} if inspection.operators else {}),
        **{f"metadata {name}": value for name, value in inspection.metadata.items()},
        "usable": f"no: {inspection.problem}; {inspection.remedy}" if inspection.problem else "yes",
    }
    yield inspection.path
    yield from _aligned(facts)
    yield f"tensors: {len(inspection.tensors)}"
    yield from _aligned(
        {name: f"{tensor.dtype}{list(tensor.shape)}" for name, tensor in inspection.tensors.items()}
    )
    if inspection.globals:
        yield f"classes and functions that its pickles name: {len(inspection.globals)}"
    yield from _aligned(
        {name: role or "REFUSED: not tensor data" for name, role in inspection.globals.items()}
    )


def declaration_lines(tried: Tried) -> Iterator[str]:
    """What was tried with a model, what fits, and how to declare it."""
    from batchdigit.doctor.declaring import SHOWN, declared

    by = f" by {tried.network}" if tried.network else ""
    yield f"{tried.model}{by} on {tried.images}; its output was taken for {tried.scores}"
    yield "   right     of  confidence  declaration"
    for one in tried.counted[:SHOWN]:
        options = declared(one).flags() or "none: light strokes on a dark ground, 0 to 1"
        yield f"  {one.share:6.1%}  {one.of:5d}  {one.confidence:10.2f}  {options}"
    if (more := len(tried.counted) - SHOWN) > 0:
        yield f"  and {more} more that read fewer"
    if tried.tried_on < tried.all_images:
        yield f"tried on {tried.tried_on} images alone, because this takes long here"
    if not tried.fits:
        yield "nothing that was tried fits: it may read other things, or want other images"
        return
    options = declared(tried.best).flags() or "no option is needed"
    usual = tried.best is not tried.counted[0]
    yield f"fits best: {options}" + (
        ", the most usual of those that hardly differ" if usual else ""
    )
    yield "or as model.toml beside the model:"
    yield from (f"  {line}".rstrip() for line in tried.model_toml().splitlines())


def _operators(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(operators.items()))


def _aligned(table: Mapping[str, object]) -> Iterator[str]:
    # Names come from the file, and could hold control codes for a terminal.
    cells = [(one_line(name, 100), one_line(str(value), 400)) for name, value in table.items()]
    width = max((len(name) for name, _ in cells), default=0)
    for name, value in cells:
        yield f"  {name:<{width}}  {value}"


def conversion_lines(conversion: Conversion) -> Iterator[str]:
    """What was written, and how it was checked."""
    yield (
        f"{conversion.path}: {conversion.format}, "
        f"{counted(conversion.bytes, 'byte', separator=',')}, "
        f"{counted(conversion.classes, 'class', 'classes')}, from {_with_article(conversion.kind)}"
    )
    yield f"checked: {conversion.checked}"
    if conversion.undeclared:
        yield f"a state dict cannot say what it takes; declare it: {conversion.undeclared}"


def _with_article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOaeio' else 'a'} {kind}"
