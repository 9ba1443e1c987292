import subprocess
import sys

import pytest
from conftest import copy_project

from joanna import memory, settings
from joanna.errors import UserError


def test_settings_beyond_any_memory_are_refused_with_advice():
    huge = ["frame-length=65536", "layer-count=1", "dim-decrease=0"]  # LSTM layers of 550 GB
    with pytest.raises(UserError, match=r"training with .* GB are free: lower frame-length"):
        memory.check(settings.load(huge), "training", 300)
    endless = ["generate-seconds=86400", "takes=100", "phase-method=all"]
    with pytest.raises(UserError, match=r"generating with .* GB are free: lower generate-seconds"):
        memory.check(settings.load(endless), "generating", 300)
    memory.check(settings.load(["frame-length=64", "dim-decrease=8"]), "training", 300)


def test_a_containers_limit_counts_without_its_cache(tmp_path, monkeypatch):
    group = ("memory.max", "memory.current", "")
    monkeypatch.setattr(memory, "_GROUPS", ((tmp_path, *group),))
    free = memory.available()
    (tmp_path / "memory.max").write_text("9000000\n")
    (tmp_path / "memory.current").write_text("8000000\n")
    assert memory.available() == 1000000 < free
    (tmp_path / "memory.stat").write_text("inactive_file 500000\nactive_file 200000\nanon 7000000\n")
    assert memory.available() == 1700000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() > 1700000


def test_the_estimate_grows_with_what_takes_memory():
    def need(stage, *words, frames=1400):
        return memory.needed(settings.load(["seed", *words]), stage, frames)

    # measured at the default widths: 2.2 GB
    assert 2.4e9 < need("training") < 3.2e9
    for word in ("dim-decrease=100", "lstm-layers=4", "window-batch=64", "window-length=96"):
        assert need("training", word) > need("training"), word
    for word in ("generate-seconds=100", "takes=3", "phase-method=all", "sequence-lengths=[8,16,24]"):
        assert need("generating", word) > need("generating"), word
    for stage in ("training", "generating"):
        assert need(stage, frames=28000) > need(stage) + 1e9


def test_memory_that_runs_out_is_one_sentence(tmp_path):
    folder = copy_project(tmp_path / "project")
    # as TensorFlow says it
    oom = "Graph execution error:\\n\\nDetected at node\\nOOM when allocating tensor with shape[9,9]\\n"
    for raised in ("MemoryError()", f"tensorflow.errors.ResourceExhaustedError(None, None, '{oom}')"):
        lines = f"""
import sys
sys.argv = ["lstm.py", "name=some"]
from joanna import settings
from joanna.backend import tensorflow
def main(settings):
    raise {raised}
settings.run_stage(main, "about")
"""
        command = [sys.executable, "-c", lines]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert result.returncode == 2
        reason = " (OOM when allocating tensor with shape[9,9])" if "OOM" in raised else ""
        assert result.stderr.startswith(f"lstm.py: too little memory{reason}; close other programs")
        assert result.stderr.count("\n") == 1
