import os

import pytest
from helpers import tone, write_wav

os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # exact products, before a GPU is used


@pytest.fixture
def song(tmp_path):
    """A recording of 1.2 s."""
    return write_wav(tmp_path / "my song.wav", tone())
