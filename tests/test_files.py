import errno
import fcntl
import os
import subprocess
import sys

import h5py
import pytest
from helpers import tiny_run

from joanna import files
from joanna.errors import UserError
from joanna.run import PROJECT


@pytest.fixture
def path(tmp_path):
    """A file of the content b"old"."""
    files.write(tmp_path / "folder" / "a.bin", lambda unfinished: unfinished.write_bytes(b"old"))
    return tmp_path / "folder" / "a.bin"


def test_a_checksum_shows_every_alteration(path):
    whole, digest = path.read_bytes(), files.digest(path)
    assert whole.startswith(b"old")
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        with pytest.raises(files.DamagedError, match="is damaged"):
            files.digest(path)
        path.write_bytes(whole[:index])
        with pytest.raises(files.DamagedError, match="is damaged"):
            files.digest(path)
    path.write_bytes(whole)
    assert files.digest(path) == digest
    path.unlink()
    with pytest.raises(files.DamagedError, match="a.bin is missing"):
        files.digest(path)


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("HDF5: no space"), KeyError])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, error):
    before = path.read_bytes()

    def fill(unfinished):
        unfinished.write_bytes(b"half of the n")
        raise error

    with pytest.raises(KeyError if error is KeyError else UserError) as failed:
        files.write(path, fill)
    if error is not KeyError:
        assert "a.bin could not be written (" in str(failed.value)
        assert "make room" in str(failed.value)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_takes_its_name(path, monkeypatch):
    """A power cut leaves the old file or the new one."""
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, call=call, name=name: calls.append(name) or call(*args))
    files.write_bytes(path, b"new")
    assert calls[:2] == ["fsync", "replace"]


def test_the_old_file_can_be_kept_once_the_new_one_is_whole(path):
    before, kept = path.read_bytes(), path.with_name("kept.bin")

    def keep():
        assert files.digest(path.with_name(".a.bin"))
        path.rename(kept)

    files.write(path, lambda unfinished: unfinished.write_bytes(b"new"), size=10_000, keep=keep)
    assert kept.read_bytes() == before
    assert path.read_bytes().startswith(b"new")
    assert files.digest(path) != files.digest(kept)


def test_text_with_a_name_that_is_not_utf_8_is_written(path):
    files.write_text(path, "caf\udce9, é\n")  # as os.fsdecode reads it
    assert path.read_text(encoding="utf-8") == "caf\\udce9, é\n"


def test_an_hdf5_file_must_have_the_expected_checksum(tmp_path):
    path = tmp_path / "a.h5"

    def fill(path):
        with h5py.File(path, "w") as file:
            file["a"] = [1, 2]

    files.write(path, fill, size=files.HDF5_OVERHEAD)
    for digest in ("", files.digest(path)):
        with files.open_h5(path, digest) as file:
            assert list(file["a"]) == [1, 2]
    with pytest.raises(files.DamagedError, match="another checksum than expected"):
        files.open_h5(path, "00")


def test_a_manifest_is_valid_for_unchanged_files_and_inputs(tmp_path):
    manifest, clip = tmp_path / ".generated.json", tmp_path / "part-4.wav"
    clip.write_bytes(b"clip")
    inputs = {"settings": {"takes": 1, "sequence-lengths": (4, 8)}, "files": ["aa"]}
    assert files.manifest_files(manifest) == []
    assert not files.verify_manifest(manifest, inputs)
    files.write_manifest(manifest, inputs, [clip])
    assert files.manifest_files(manifest) == ["part-4.wav"]
    assert files.verify_manifest(manifest, inputs)
    assert not files.verify_manifest(manifest, {**inputs, "files": ["bb"]})
    clip.write_bytes(b"clap")
    assert not files.verify_manifest(manifest, inputs)
    clip.unlink()
    assert not files.verify_manifest(manifest, inputs)
    for text in ("", "[]", '{"files": 1, "made with": {}}'):
        manifest.write_text(text)
        assert not files.verify_manifest(manifest, {})


def run_python(script, folder, *prefix):
    """Run a script with the project's modules in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    environment.pop("HDF5_USE_FILE_LOCKING", None)
    return subprocess.run([*prefix, sys.executable, "-c", script], cwd=folder, env=environment).returncode


# HDF5 cannot lock the file, because another descriptor holds its lock
LOCKED = """
from joanna import startup
startup.prepare()
import fcntl, h5py
h5py.File("a.h5", "w").close()
with open("a.h5") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    h5py.File("a.h5", "a").close()
"""


def test_a_folder_without_locks_is_used_and_named(tmp_path, monkeypatch, capsys):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    run = tiny_run(tmp_path, "name=some")
    with run.locked():
        (run.output / "a").touch()
    assert "output/some cannot be locked (No locks available): do not run 'some'" in capsys.readouterr().out
    assert run_python(LOCKED, tmp_path) == 0


CLOSED = """
from joanna import startup
startup.prepare()
import sys
from joanna.progress import ProgressDisplay
with open("a", "w+") as file, ProgressDisplay("a", 0, 1, 1.0, lambda seconds, each: 0.0) as display:
    print("printed", flush=True)
    print("printed", file=sys.stderr, flush=True)
    display.update(1, 0.5, 1)
    sys.exit(len(file.read()))
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_closed_stdout_does_not_matter(tmp_path, closed):
    assert run_python(CLOSED, tmp_path, "sh", "-c", f'exec "$@" {closed}', "sh") == 0
