import os

from batchdigit.bench.measuring.images import digits_in_a_folder, evenly, links_to
from batchdigit.sources.filelist import FileList
from batchdigit.sources.find import list_images
from tests.support.samples import SAMPLES


def test_images_are_spread_evenly_and_repeated_if_need_be() -> None:
    files = FileList(b"/", [b"a", b"b", b"c", b"d"])
    assert list(evenly(files, 2)) == [b"a", b"c"]
    assert list(evenly(files, 4)) == [b"a", b"b", b"c", b"d"]
    assert list(evenly(files, 8)) == [b"a", b"a", b"b", b"b", b"c", b"c", b"d", b"d"]


def test_links_lead_to_the_files() -> None:
    files = list_images([SAMPLES]).images
    with links_to(evenly(files, 300)) as folder:
        found = list_images([folder], follow_symlinks=True).images
        assert len(found) == 300
        assert os.path.samefile(found.path(3), files.path(1))
    assert not folder.exists()


def test_packaged_digits_are_what_is_measured_without_a_source() -> None:
    with digits_in_a_folder() as folder:
        assert len(list_images([folder]).images) == 1000
