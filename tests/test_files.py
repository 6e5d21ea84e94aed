"""Files appear whole or not at all, and nothing is unpickled."""

import os
import stat
import zipfile

import numpy as np
import pytest

from refrm import FileError
from refrm.files import read_about, read_npz, write_atomic, write_npz

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def test_a_file_appears_whole_with_the_mode_that_it_had(tmp_path):
    path = tmp_path / "a b\u00fc.bin"
    old = os.umask(0o027)
    try:
        write_atomic(path, b"first")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"first" and stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_what_is_not_a_file_is_left_alone(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(FileError, match="it exists and is not a file that may be written"):
            write_atomic(path, b"x")
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_what_may_not_be_written_is_left_alone(tmp_path):
    path = tmp_path / "mine"
    path.write_bytes(b"mine")
    path.chmod(0o400)
    with pytest.raises(FileError, match="not a file that may be written"):
        write_atomic(path, b"x")


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*nowhere/file: its directory does not exist or may not be"):
        write_atomic(tmp_path / "nowhere" / "file", b"x")


def test_a_name_that_the_system_refuses(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, tmp_path / ("x" * 300)):
        with pytest.raises(FileError, match="cannot write"):
            write_atomic(path, b"x")


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, call, fail)
    expected = FileError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is FileError else None):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_no_room_even_for_the_temporary_file(tmp_path, monkeypatch):
    def fail(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", fail)
    with pytest.raises(FileError, match=r"cannot write .*: No space left"):
        write_atomic(tmp_path / "file", b"x")


def test_arrays_and_a_description_make_the_round_trip(tmp_path):
    path = tmp_path / "x.npz"
    write_npz(path, {"kind": "thing", "n": np.int64(3), "x": np.array([0.5])}, a=np.arange(3), b=np.float32([1.5]))
    about, arrays = read_about(path, "thing")
    assert about == {"kind": "thing", "n": 3, "x": [0.5]}
    assert arrays["a"].tolist() == [0, 1, 2] and arrays["b"].dtype == np.float32


def bad_files(tmp_path):
    np.savez(tmp_path / "good.npz", a=np.zeros(100))
    whole = (tmp_path / "good.npz").read_bytes()
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("chosen,rejected\n1,2\n")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (tmp_path / "flipped.npz").write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr'")
    (tmp_path / "directory.npz").mkdir()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npz", "does not exist"),
        ("single.npy", "is a single array, not an .npz archive"),
        ("objects.npz", "Python objects are never unpickled"),
        ("text.npz", "is not an .npz archive of plain arrays"),
        ("empty.npz", "is not a"),
        ("cut.npz", "is not a"),
        ("flipped.npz", "is not a"),
        ("short.npz", "is not a"),
        ("directory.npz", "cannot read .*: Is a directory"),
    ],
)
def test_what_is_not_an_archive_is_refused_with_one_line(tmp_path, name, message):
    bad_files(tmp_path)
    with pytest.raises(FileError, match=message) as error:
        read_npz(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value) and "allow_pickle" not in str(error.value)


def test_an_archive_without_a_description_is_not_ours(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    np.savez(tmp_path / "y.npz", about=np.array("no json"))
    np.savez(tmp_path / "z.npz", about=np.array("[1]"))
    for name in "xyz":
        with pytest.raises(FileError, match="is not a model of refrm"):
            read_about(tmp_path / f"{name}.npz", "model")
