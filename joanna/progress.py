"""Display of a training: a progress bar in a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable

_NARROW = 95  # columns of the figures; a wider terminal has a bar, too
_MIN_INTERVAL, _MAX_INTERVAL = 10, 300  # seconds between lines; in between, a tenth of the time so far


class ProgressDisplay:
    """Epoch, current and best loss, time left for the training and for the run. A context manager.

    In a terminal it is drawn by rich, which Keras installs; without it, or to a file, lines are printed.
    """

    def __init__(
        self, label: str, done: float, total: int, best: float, run_left: Callable[[float, float], float]
    ):
        """A training with `done` of `total` epochs trained and the lowest loss `best`.

        `run_left` maps seconds left for the training and seconds per epoch to seconds left for the run.
        """
        self._label, self._start, self._best, self._run_left = label, done, best, run_left
        self._began = self._shown = time.monotonic()
        self._bar = _bar()
        if self._bar:
            self._task = self._bar.add_task(label, total=total, completed=int(done), loss="", left="")

    def __enter__(self):
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_):
        if self._bar:
            self._bar.stop()

    def update(self, epoch: float, loss: float, total: int) -> None:
        """Show that `epoch` of `total` epochs are trained, the last with `loss`."""
        self._best = min(self._best, loss)
        now = time.monotonic()
        spent = now - self._began
        each = spent / (epoch - self._start)
        left = each * (total - epoch)
        time_left, run_left = duration(left), duration(self._run_left(left, each))
        if self._bar:
            losses, words = f"loss {loss:.4f} best {self._best:.4f}", f"left {time_left}/{run_left}"
            self._bar.update(self._task, total=total, completed=int(epoch), loss=losses, left=words)
        elif epoch == total or now - self._shown > min(max(_MIN_INTERVAL, spent / 10), _MAX_INTERVAL):
            self._shown = now
            losses = f"loss {loss:.4f}, best {self._best:.4f}"
            words = f"{time_left} left, {run_left} for the run"
            print(f"{self._label}: epoch {int(epoch):,} of {total:,}, {losses}, {words}", flush=True)


def _bar():
    if not (hasattr(sys.stdout, "isatty") and sys.stdout.isatty()):  # a notebook's may have none
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress
    except ImportError:
        return None
    console = Console()
    if not console.is_interactive:  # a terminal that cannot overwrite a line
        return None
    bar = [BarColumn(bar_width=None)] if console.width > _NARROW else []
    figures = "{task.completed:,}/{task.total:,}", "{task.fields[loss]}", "{task.fields[left]}"
    return Progress("{task.description}", *bar, *figures, console=console, refresh_per_second=4)


def duration(seconds: float) -> str:
    """Seconds in words: '45 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
