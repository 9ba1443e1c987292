import os

import pytest
from helpers import tone, write_wav

os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # exact products, before a GPU is used
# files that take longest; each is run by one process, and the last one to end should be short
SLOWEST = ("cluster", "resume", "sweep", "pipeline", "run_sh", "report", "keys", "generation", "training")


def pytest_collection_modifyitems(items):
    """Start with the slowest files (`--no-loadscope-reorder` keeps this order)."""
    places = {f"test_{name}": place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture
def song(tmp_path):
    """A recording of 1.2 s."""
    return write_wav(tmp_path / "my song.wav", tone())
