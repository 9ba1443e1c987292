"""Files that are whole or not there: written beside, sealed with a checksum, renamed into place."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py

from joanna.errors import UserError

_MARK = b"JOANNA\x01\n"  # what the seal begins with; HDF5 ignores bytes after its end
HDF5_OVERHEAD = 200_000  # bytes, more than its own records take here
_SEAL = len(_MARK) + hashlib.sha256().digest_size
# what h5py and json raise on files crafted to mislead
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RuntimeError)


class DamagedError(UserError):
    """A file that is not as it was written."""


def write(
    path: Path,
    fill: Callable[[Path], object],
    size: int = 0,
    keep: Callable[[], None] = lambda: None,
    sealed: bool = True,
) -> None:
    """Write a file so that at any moment, a power cut's too, the old one or the new one is whole.

    Args:
        path: where it will be.
        fill: writes the content to the path it is given, in the same folder.
        size: bytes it will take at least, looked for beforehand: HDF5 crashes on a full disk.
        keep: called once the new file is on the disk, before it takes the old one's place.
        sealed: with a checksum after the content.

    Raises:
        UserError: no room, no permission; the old file is as it was.
    """
    beside = path.with_name("." + path.name)
    try:
        with beside.open("wb") as file:
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif size > shutil.disk_usage(path.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fill(beside)
        digest = _MARK + _digest(beside, beside.stat().st_size) if sealed else b""
        with beside.open("ab") as file:
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        keep()
        os.replace(beside, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # HDF5 raises either
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"{path} could not be written ({reason}); make room or change the folder's permissions "
            "and run the same command again"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` outlast a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def seal(path: Path) -> str:
    """The checksum a file was sealed with, after a check that it is still that file's.

    Raises:
        DamagedError: it is not: the file is torn, altered or not ours.
    """
    try:
        size = path.stat().st_size - _SEAL
        with path.open("rb") as file:
            file.seek(max(0, size))
            mark, digest = file.read(len(_MARK)), file.read()
        if mark != _MARK:
            raise DamagedError(f"{path} is damaged: it was cut off, or written by an earlier version")
        if digest != _digest(path, size):
            raise DamagedError(f"{path} is damaged: its checksum is wrong")
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None
    return digest.hex()


def note(path: Path, made_with: dict, files: list[Path]) -> None:
    """Write beside `files` what they were made with, so that `noted` can tell."""
    digests = {file.name: _digest(file, file.stat().st_size).hex() for file in files}
    text = json.dumps({"made with": made_with, "files": digests})
    write(path, lambda path: path.write_text(text), sealed=False)


def files_noted(path: Path) -> list[str]:
    """Names of the files noted at `path`; none if there is no such note."""
    try:
        return list(json.loads(path.read_text())["files"])
    except MALFORMED:
        return []


def noted(path: Path, made_with: dict) -> list[str]:
    """Names of the files noted at `path`, if all are as they were written, with the same; else none."""
    try:
        found = json.loads(path.read_text())
        if found["made with"] != json.loads(json.dumps(made_with)):
            return []
        for name, digest in found["files"].items():
            file = path.with_name(Path(name).name)
            if _digest(file, file.stat().st_size).hex() != digest:
                return []
        return list(found["files"])
    except MALFORMED:
        return []


def _digest(path: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest.digest()


def open_h5(path: Path, wanted: str = "") -> h5py.File:
    """Open a sealed HDF5 file that reaches for nothing outside itself and holds what it declares.

    Args:
        wanted: the seal it has to have, if any will not do.

    Raises:
        DamagedError: it is torn, altered, or not such a file.
    """
    if seal(path) != wanted and wanted:
        raise DamagedError(f"{path} is another than the one asked for")
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise DamagedError(f"{path} is damaged: it is no HDF5 file") from None
    try:
        _refuse_foreign(file, path.stat().st_size)
    except Exception as error:  # whatever HDF5 makes of a crafted file
        file.close()
        raise DamagedError(f"{path} is damaged: {error}") from None
    return file


def _refuse_foreign(group, size):
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} links elsewhere")
        item = group[name]
        if isinstance(item, h5py.Group):
            _refuse_foreign(item, size)
        elif item.external or item.is_virtual or item.nbytes > size:
            raise ValueError(f"{name} declares more than the file holds")
