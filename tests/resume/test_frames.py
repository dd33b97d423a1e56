"""What was written comes back whole, or not at all."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.errors import OutputError
from batchdigit.resume.frames import (
    DamagedFrameError,
    decoding,
    pack_arrays,
    pack_predictions,
    read_frame,
    reading_again,
    unpack_arrays,
    unpack_predictions,
    write_frame,
)
from tests.support.rows import Row, assert_same, predictions_of, rows


def frame(payload: bytes, context: bytes) -> bytes:
    stream = io.BytesIO()
    write_frame(stream, payload, context)
    return stream.getvalue()


@given(st.lists(st.tuples(st.binary(), st.binary()), max_size=4))
def test_frames_come_back_one_after_another(frames: list[tuple[bytes, bytes]]) -> None:
    stream = io.BytesIO()
    for payload, context in frames:
        write_frame(stream, payload, context)
    stream.seek(0)
    for payload, context in frames:
        assert read_frame(stream, context) == payload
    with pytest.raises(DamagedFrameError):
        read_frame(stream, b"")  # there is no more


@given(st.binary(), st.binary(), st.binary())
def test_frame_in_the_place_of_another_is_damaged(
    payload: bytes, context: bytes, other: bytes
) -> None:
    stream = io.BytesIO(frame(payload, context))
    if context == other:
        assert read_frame(stream, other) == payload
    else:
        with pytest.raises(DamagedFrameError):
            read_frame(stream, other)


def test_context_and_payload_do_not_run_into_each_other() -> None:
    with pytest.raises(DamagedFrameError):
        read_frame(io.BytesIO(frame(b"bc", b"a")), b"ab")


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    whole = frame(b"payload", b"context")
    for place in range(len(whole)):
        for bit in range(8):
            changed = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
            with pytest.raises(DamagedFrameError):
                read_frame(io.BytesIO(changed), b"context")
        with pytest.raises(DamagedFrameError):
            read_frame(io.BytesIO(whole[:place]), b"context")


def test_length_of_more_than_there_is_allocates_nothing() -> None:
    huge = (2**63 - 1).to_bytes(8, "little") + bytes(32)
    with pytest.raises(DamagedFrameError):
        read_frame(io.BytesIO(huge), b"")


@pytest.mark.parametrize("dtype", ["i8", "f4", "u1", "i2", "?"])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 0), (2, 3)], ids=str)
def test_arrays_come_back_with_their_types_and_shapes(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    (back,) = unpack_arrays(pack_arrays({"name": array})).values()
    np.testing.assert_array_equal(back, array, strict=True)


@given(rows(), rows())
def test_predictions_come_back_as_one(some: list[Row], more: list[Row]) -> None:
    more = [row._replace(index=row.index + 100) for row in more]
    packed = pack_predictions([predictions_of(some), predictions_of(more)])
    assert_same(unpack_predictions(packed), predictions_of([*some, *more]))


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("attacked",)


def test_nothing_in_a_payload_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stream = io.BytesIO()
    np.savez(stream, indices=np.array([Attack()], dtype=object))
    for payload in (stream.getvalue(), pickle.dumps(Attack())):
        for unpack in (unpack_arrays, unpack_predictions):
            with pytest.raises(DamagedFrameError):
                unpack(payload)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "payload",
    [b"", b"text", pack_arrays({}), pack_arrays({"indices": np.arange(3)})],
    ids=["nothing", "text", "no array", "another array"],
)
def test_whole_payload_of_something_else_is_damaged(payload: bytes) -> None:
    with pytest.raises(DamagedFrameError):
        unpack_predictions(payload)


def test_lack_of_memory_is_no_damage() -> None:
    with pytest.raises(MemoryError), decoding():
        raise MemoryError


@pytest.mark.parametrize("error", [DamagedFrameError("torn"), OSError(5, "Input/output error")])
def test_what_was_whole_before_and_is_not_now_is_an_output_error(error: Exception) -> None:
    with (
        pytest.raises(OutputError, match="place was changed or removed.*same command again"),
        reading_again(Path("place")),
    ):
        raise error
