import pytest
from helpers import tone, write_wav


@pytest.fixture
def song(tmp_path):
    """A recording of 1.2 s."""
    return write_wav(tmp_path / "my song.wav", tone())
