import os
from pathlib import Path

from batchdigit.bench.measuring.images import digits_in_a_folder, evenly, links_to
from batchdigit.sources.folder import open_folders
from tests.support.samples import SAMPLES, files_in


def test_images_are_spread_evenly_and_repeated_if_need_be() -> None:
    files = files_in(Path("/"), [b"a", b"b", b"c", b"d"])
    assert list(evenly(files, 2).images) == [b"a", b"c"]
    assert list(evenly(files, 4).images) == [b"a", b"b", b"c", b"d"]
    assert list(evenly(files, 8).images) == [b"a", b"a", b"b", b"b", b"c", b"c", b"d", b"d"]


def test_links_lead_to_the_files() -> None:
    files = open_folders([SAMPLES])
    with links_to(evenly(files, 300)) as folder:
        found = open_folders([folder], follow_symlinks=True)
        assert len(found) == 300
        assert os.path.samefile(found.path(3), files.path(1))
    assert not folder.exists()


def test_packaged_digits_are_what_is_measured_without_a_source() -> None:
    with digits_in_a_folder() as folder:
        assert len(open_folders([folder])) == 1000
