import numpy as np

from batchdigit.batches import Failure, Predictions, Treatment, blank_facts
from batchdigit.reports.summary import FolderNote
from batchdigit.reports.survey import Survey
from batchdigit.sources.filelist import FileList


def survey(
    names: list[bytes],
    dark: set[int] = frozenset(),
    blank: set[int] = frozenset(),
    faint: set[int] = frozenset(),
) -> Survey:
    good = np.array([index for index in range(len(names)) if index not in blank], np.int64)
    facts = blank_facts(len(good))
    facts["treatment"][np.isin(good, list(dark))] = Treatment.DARK | Treatment.FITTED
    facts["treatment"][np.isin(good, list(faint))] = Treatment.FAINT
    failures = tuple(Failure(index, "blank", "no strokes found") for index in sorted(blank))
    nothing = np.zeros((len(good), 1))
    survey = Survey(FileList(names))
    survey.count(Predictions(good, nothing.astype(int), nothing, facts, failures=failures))
    return survey


def surveyed(names: list[bytes], **kinds: set[int]) -> tuple[FolderNote, ...]:
    return survey(names, **kinds).notes()


def test_what_was_fitted_is_counted_in_all() -> None:
    counts = survey([b"%d/%d.png" % (n % 3, n) for n in range(10)], dark={1, 2, 3}, blank={9})
    assert (counts.fitted, counts.inverted.total()) == (3, 3)
    counts.count(_predictions([0, 1, 2], [Treatment.FITTED, Treatment.DARK, Treatment.CROWDED]))
    assert (counts.fitted, counts.inverted.total()) == (4, 4)


def _predictions(indices: list[int], treatments: list[Treatment]) -> Predictions:
    facts = blank_facts(len(indices))
    facts["treatment"][:] = treatments
    nothing = np.zeros((len(indices), 1))
    return Predictions(np.array(indices), nothing.astype(int), nothing, facts)


def test_folder_of_one_kind_is_named_and_others_are_not() -> None:
    names = [b"a/%d.png" % number for number in range(10)] + [b"b/%d.png" % n for n in range(10)]
    assert surveyed(names) == ()
    assert surveyed(names, dark=set(range(9))) == (FolderNote("a", 10, "inverted", 9),)
    assert surveyed(names, dark=set(range(8))) == ()
    assert surveyed(names, blank=set(range(10, 20))) == (FolderNote("b", 10, "blank", 10),)
    assert surveyed(names, faint=set(range(10))) == (FolderNote("a", 10, "faint", 10),)
    assert [note.folder for note in surveyed(names, dark=set(range(20)))] == ["a", "b"]


def test_few_images_are_no_folder_of_one_kind() -> None:
    assert surveyed([b"%d.png" % n for n in range(4)], dark={0, 1, 2, 3}) == ()
    notes = surveyed([b"%d.png" % n for n in range(5)], dark={0, 1, 2, 3, 4})
    assert notes == (FolderNote(".", 5, "inverted", 5),)
