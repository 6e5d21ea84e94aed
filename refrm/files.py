"""Files that appear whole or not at all, and `.npz` archives without pickle."""

import contextlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from refrm.errors import FileError
from refrm.spec import Array


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Return the file behind ``path``, links followed, or raise `FileError` if it could not be written."""
    try:
        place = Path(os.path.realpath(path))
        there, file = place.exists() or place.is_symlink(), place.is_file()  # still a link: a loop
        writable = os.access(place, os.W_OK)
    except OSError as error:  # such as a name that is too long
        raise FileError(f"cannot write {path}: {error.strerror}") from None
    if there and not (file and writable):
        raise FileError(f"cannot write {path}: it exists and is not a file that may be written")
    if not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
        raise FileError(f"cannot write {path}: its directory does not exist or may not be written")
    return place


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``: beside it first, then fsync, then rename. A reader sees the old file or the new
    one; a link stays a link, and what is neither a file nor a link to one is refused.
    """
    place = check_writable(path)
    try:
        handle, beside = tempfile.mkstemp(prefix=".refrm-", dir=place.parent)
    except OSError as error:
        raise FileError(f"cannot write {place}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's file is private; ours keeps the mode of the file that it replaces, or has what the umask leaves
        os.umask(umask := os.umask(0))
        os.chmod(beside, place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~umask)
        os.replace(beside, place)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        if isinstance(error, OSError):
            raise FileError(f"cannot write {place}: {error.strerror}") from None
        raise


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, Array]) -> None:
    """Write arrays as `.npz`."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


def write_npz(path: str | os.PathLike[str], about: dict[str, Any], **arrays: Array) -> None:
    """Write arrays and one JSON object, under the name "about", as `.npz`; NumPy's numbers become JSON's."""
    text = json.dumps(about, default=lambda number: np.asarray(number).tolist())
    write_arrays(path, {"about": np.array(text), **arrays})


def read_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return every array of an `.npz` file; nothing is unpickled."""
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise FileError(f"{path} is a single array, not an .npz archive")
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise FileError(f"{path} does not exist") from None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except FileError:
        raise
    except ValueError:  # numpy's message would recommend unpickling
        raise FileError(f"{path} is not an .npz archive of plain arrays; Python objects are never unpickled") from None
    except (EOFError, zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, MemoryError) as error:
        raise FileError(f"{path} is not a whole .npz archive: {error or type(error).__name__}") from None


def read_about(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the JSON object and the arrays of a file that `write_npz` wrote with ``about["kind"] == kind``."""
    arrays = read_npz(path)
    try:
        about = json.loads(str(arrays.pop("about")))
        if about["kind"] != kind:
            raise FileError(f"{path} is a {about['kind']} of refrm, expected a {kind}")
    except (KeyError, TypeError, json.JSONDecodeError):
        raise FileError(f"{path} is not a {kind} of refrm") from None
    return about, arrays
