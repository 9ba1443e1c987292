import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from joanna import settings as settings_module

PROJECT = Path(__file__).resolve().parent.parent
TINY = [
    "frame-length=64",
    "layer-count=2",
    "dim-decrease=8",
    "sample-rate=4000",
    "section-count=2",
    "block-count=60",
    "ae-epoch=2",
    "ae-iteration=2",
    "lstm-epoch=1",
    "lstm-iteration=2",
    "window-length=8",
    "generate-seconds=0.5",
    "sequence-lengths=[4,8]",
    "preview-minutes=0",
]


def tone(seconds=1.2, rate=4000, pitch=440.0):
    """A swelling two-tone signal, float64 in -0.5 to 0.5."""
    t = np.arange(int(seconds * rate)) / rate
    return 0.25 * (np.sin(2 * np.pi * pitch * t) + np.sin(2 * np.pi * 1.5 * pitch * t) * t / seconds)


def copy_project(folder):
    """A copy of the scripts to run in `folder`; returns it."""
    (folder / "sources").mkdir(parents=True)
    for script in PROJECT.glob("*.py"):
        shutil.copy(script, folder)
    shutil.copytree(PROJECT / "joanna", folder / "joanna")
    return folder


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "my song.wav"
    wavfile.write(path, 4000, np.round(tone() * 32767).astype(np.int16))
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Runs go to a temporary folder."""
    monkeypatch.setattr(settings_module, "ROOT", tmp_path)
    return tmp_path
