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
        self._label, self._start, self._total = label, done, total
        self._best, self._run_left = best, run_left
        self._bar = _bar() if sys.stdout.isatty() else None
        self._began = self._shown = time.monotonic()

    def __enter__(self):
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(
                self._label,
                total=self._total,
                completed=int(self._start),
                loss="",
                left="",
            )
        return self

    def __exit__(self, *_):
        if self._bar:
            self._bar.stop()

    def update(self, epoch: float, loss: float, total: int) -> None:
        """Show that `epoch` of `total` epochs are trained, the last with `loss`."""
        self._total = total
        self._best = min(self._best, loss)
        now = time.monotonic()
        spent = now - self._began
        each = spent / (epoch - self._start)
        left = each * (self._total - epoch)
        if self._bar:
            words = f"left {duration(left)}/{duration(self._run_left(left, each))}"
            losses = f"loss {loss:.4f} best {self._best:.4f}"
            self._bar.update(self._task, total=total, completed=int(epoch), loss=losses, left=words)
        elif epoch == self._total or now - self._shown > min(max(_MIN_INTERVAL, spent / 10), _MAX_INTERVAL):
            self._shown = now
            print(
                f"{self._label}: epoch {int(epoch):,} of {self._total:,}, loss {loss:.4f}, best "
                f"{self._best:.4f}, {duration(left)} left, {duration(self._run_left(left, each))} for "
                "the run",
                flush=True,
            )


def _bar():
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    except ImportError:
        return None
    console = Console()
    if not console.is_interactive:  # a terminal that cannot overwrite a line
        return None
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[left]}"),
    ]
    if console.width > _NARROW:
        columns.insert(1, BarColumn(bar_width=None))
    return Progress(*columns, console=console, refresh_per_second=4)


def duration(seconds: float) -> str:
    """Seconds in words: '45 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
