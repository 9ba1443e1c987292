"""What is seen of a training: a line that moves in a terminal, lines now and then elsewhere."""

import sys
import time
from collections.abc import Callable

_NARROW = 95  # columns that the figures take
_SOONEST, _LATEST = 10, 300  # seconds between lines; a tenth of the time that has passed in between


class Progress:
    """Epoch, loss now and best, time left for the training and for the run. To be used in `with`.

    In a terminal rich draws it, which Keras brings along; without it, or into a file, lines are printed.
    """

    def __init__(
        self, label: str, done: float, total: int, best: float, run_left: Callable[[float, float], float]
    ):
        """A training's display.

        Args:
            label: the training's name.
            done: epochs that are trained already.
            total: epochs it is to have.
            best: lowest loss so far, inf if there is none.
            run_left: seconds left for the training, seconds an epoch -> seconds left for the run.
        """
        self._label, self._start, self._total = label, done, total
        self._best, self._run_left = best, run_left
        self._bar = _bar() if sys.stdout.isatty() else None
        self._began = self._shown = time.monotonic()

    def __enter__(self):
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(
                self._label.removesuffix(" layers"),
                total=self._total,
                completed=int(self._start),
                loss="",
                left="",
            )
        return self

    def __exit__(self, *_):
        if self._bar:
            self._bar.stop()

    def update(self, epoch: int, loss: float, total: int) -> None:
        """Show that `epoch` epochs of `total` are done, the last with `loss`."""
        self._total = total
        self._best = min(self._best, loss)
        now = time.monotonic()
        spent = now - self._began
        each = spent / (epoch - self._start)
        left = each * (self._total - epoch)
        if self._bar:
            words = f"left {duration(left)}/{duration(self._run_left(left, each))}"
            losses = f"loss {loss:.4f} best {self._best:.4f}"
            self._bar.update(self._task, total=total, completed=epoch, loss=losses, left=words)
        elif epoch == self._total or now - self._shown > min(max(_SOONEST, spent / 10), _LATEST):
            self._shown = now
            print(
                f"{self._label}: epoch {epoch:,} of {self._total:,}, loss {loss:.4f}, best "
                f"{self._best:.4f}, {duration(left)} left, {duration(self._run_left(left, each))} for "
                "the run",
                flush=True,
            )


def _bar():
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        return None
    console = Console()
    if not console.is_interactive:  # a terminal that cannot move back
        return None
    columns = [
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
