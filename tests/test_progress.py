"""The display of a training, in a terminal and elsewhere."""

import os
import pty
import re
import subprocess
import sys

import pytest

from joanna.progress import ProgressDisplay, duration
from joanna.run import PROJECT


@pytest.mark.parametrize(("seconds", "words"), [(45, "45 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_lines_where_there_is_no_terminal(capsys):
    with ProgressDisplay("a training", 2, 5, 0.25, lambda seconds, each: seconds + 3600) as display:
        for epoch in (3, 4, 5):
            display.update(epoch, 0.5, 5)
    assert capsys.readouterr().out == (
        "a training: epoch 5 of 5, loss 0.5000, best 0.2500, 0 s left, 60 min for the run\n"
    )


def test_lines_where_stdout_is_of_a_notebook(monkeypatch):
    class Stream:
        text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", stream := Stream())
    with ProgressDisplay("a training", 0, 1, 1.0, lambda seconds, each: seconds) as display:
        display.update(1, 0.5, 1)
    assert "a training: epoch 1 of 1, loss 0.5000" in stream.text


SCRIPT = """
from joanna.progress import ProgressDisplay
with ProgressDisplay("magnitude spliced", 0, 1200, 9.0, lambda seconds, each: seconds) as display:
    for epoch in range(1200):
        display.update(epoch + 1, 1 / (epoch + 1), 1200)
"""


@pytest.mark.parametrize(("kind", "columns"), [("xterm", 120), ("xterm", 80), ("dumb", 80)])
def test_a_bar_in_a_terminal_and_lines_in_one_without_cursor_movement(kind, columns):
    outer, inner = pty.openpty()
    environment = {**os.environ, "TERM": kind, "COLUMNS": str(columns)}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=PROJECT, stdout=inner, env=environment, check=True)
    os.close(inner)
    output = ""
    while True:
        try:
            output += os.read(outer, 1 << 16).decode()
        except OSError:  # the other end is closed
            break
    os.close(outer)
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    if kind == "dumb":
        assert "magnitude spliced: epoch 1,200 of 1,200, loss 0.0008, best 0.0008, 0 s left" in output
    else:
        assert "1,200/1,200 loss 0.0008 best 0.0008 left 0 s/0 s" in output
        assert ("━" in output) == (columns == 120)
