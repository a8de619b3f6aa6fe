from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facegen.training.storage import write_atomically


def test_bytes_pieces_and_arrays_are_written_whole(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    write_atomically(tmp_path / "a", b"whole")
    write_atomically(tmp_path / "b", iter([b"in ", b"pieces"]))
    write_atomically(tmp_path / "c.npy", array)

    assert (tmp_path / "a").read_bytes() == b"whole"
    assert (tmp_path / "b").read_bytes() == b"in pieces"
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), array)


def test_writing_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("no more")

    (tmp_path / "a").write_bytes(b"old")

    with pytest.raises(RuntimeError, match="no more"):
        write_atomically(tmp_path / "a", pieces())

    assert (tmp_path / "a").read_bytes() == b"old"
    assert [it.name for it in tmp_path.iterdir()] == ["a"]
