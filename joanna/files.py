"""Files that are whole or absent: written under another name, checksummed, renamed into place."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from joanna.errors import UserError

_MARK = b"JOANNA\x01\n"  # precedes the checksum; HDF5 ignores bytes after its end
HDF5_OVERHEAD = 200_000  # bytes, more than the metadata of one of our files
_TRAILER = len(_MARK) + hashlib.sha256().digest_size
# raised by h5py and json on crafted files
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RuntimeError)


class DamagedError(UserError):
    """A file that was cut off, altered or written by another program."""


def write(
    path: Path,
    fill: Callable[[Path], object],
    size: int = 0,
    keep: Callable[[], None] = lambda: None,
    checksum: bool = True,
) -> None:
    """Write a file so that the old one or the new one is whole at any moment, a power cut included.

    Args:
        path: the file.
        fill: writes the content to the path it is given, in the same folder.
        size: least bytes of the content; reserved first, because HDF5 crashes on a full disk.
        keep: called when the new file is on the disk, before it replaces the old one.
        checksum: whether a checksum follows the content.

    Raises:
        UserError: no room or no permission; the old file is unchanged.
    """
    unfinished = path.with_name("." + path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif size > shutil.disk_usage(path.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fill(unfinished)
        with unfinished.open("ab") as file:
            if checksum:
                size = unfinished.stat().st_size
                file.write(_MARK + _update(hashlib.sha256(), unfinished, size).digest())
            file.flush()
            os.fsync(file.fileno())
        keep()
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # HDF5 raises either
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"{path} could not be written ({reason}); make room or change the folder's permissions "
            "and run the same command again"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """`write` bytes without a checksum."""
    write(path, lambda unfinished: unfinished.write_bytes(content), checksum=False)


def write_text(path: Path, text: str) -> None:
    """`write` UTF-8 text without a checksum; bytes of a file's name that are none become escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def digest(path: Path) -> str:
    """Checksum at the end of a file that `write` wrote, verified against its content.

    Raises:
        DamagedError: missing, cut off, altered, or without a checksum.
    """
    try:
        size = path.stat().st_size - _TRAILER
        with path.open("rb") as file:
            file.seek(max(0, size))
            mark, stored = file.read(len(_MARK)), file.read()
        if mark != _MARK:
            raise DamagedError(f"{path} is damaged: cut off, or written by an earlier version")
        if stored != _update(hashlib.sha256(), path, size).digest():
            raise DamagedError(f"{path} is damaged: its checksum is wrong")
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None
    return stored.hex()


def array_digest(*arrays: np.ndarray) -> str:
    """Checksum of the bytes of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:16]


def content_digest(*paths: Path) -> str:
    """Checksum of the contents of files, one after the other."""
    found = hashlib.sha256()
    for path in paths:
        _update(found, path, path.stat().st_size)
    return found.hexdigest()


def write_manifest(path: Path, inputs: dict, outputs: list[Path]) -> None:
    """Record what `outputs`, files in the folder of `path`, were made from, for `verify_manifest`."""
    digests = {file.name: content_digest(file) for file in outputs}
    write_text(path, json.dumps({"made with": inputs, "files": digests}))


def manifest_files(path: Path) -> list[str]:
    """Names of the files recorded at `path`; empty if there is no manifest."""
    try:
        return list(json.loads(path.read_text())["files"])
    except MALFORMED:
        return []


def verify_manifest(path: Path, inputs: dict) -> bool:
    """Whether the files recorded at `path` are unchanged and were made from the same inputs."""
    try:
        manifest = json.loads(path.read_text())
        return manifest["made with"] == json.loads(json.dumps(inputs)) and all(
            content_digest(path.with_name(Path(name).name)) == stored
            for name, stored in manifest["files"].items()
        )
    except MALFORMED:
        return False


def _update(found, path, size):
    """Add the first `size` bytes of a file to a checksum, which is returned."""
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            found.update(block)
            size -= len(block)
    return found


def open_h5(path: Path, expected_digest: str = "") -> h5py.File:
    """Open a checksummed HDF5 file that links nowhere else and holds what it declares.

    Raises:
        DamagedError: cut off, altered, crafted, or not the file of `expected_digest`, if given.
    """
    found = digest(path)
    if expected_digest and found != expected_digest:
        raise DamagedError(f"{path} has another checksum than expected")
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise DamagedError(f"{path} is damaged: not an HDF5 file") from None
    try:
        _refuse_crafted(file, path.stat().st_size)
    except Exception as error:  # HDF5 raises many kinds on crafted files
        file.close()
        raise DamagedError(f"{path} is damaged: {error}") from None
    return file


def _refuse_crafted(group, size):
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} links elsewhere")
        item = group[name]
        if isinstance(item, h5py.Group):
            _refuse_crafted(item, size)
        elif item.external or item.is_virtual or item.nbytes > size:
            raise ValueError(f"{name} declares more than the file holds")
