"""Minutes to a reconstruction error: our training, and stock Keras.

Both train the same autoencoder from the same initial weights on the song of the settings: ours as
autoencoder.py does, over ae-epoch x ae-iteration epochs; stock Keras with model.fit, batch 1, RMSprop at
its defaults. The error is that of the whole song, without dropout. It is computed after each epoch with
the clock stopped.
"""

import tempfile
import time
from pathlib import Path

import common
import numpy as np

import autoencoder
from joanna import model
from joanna.artifacts import Frames
from joanna.backend import keras
from joanna.spectra import COMPONENTS, normalized_error
from joanna.training import fit


class Clock(keras.callbacks.Callback):
    """Stops the training of an autoencoder of frames ``(M, F)`` at an error or when its time is over."""

    def __init__(self, frames: np.ndarray, target: float, minutes: float):
        super().__init__()
        self._frames, self._target, self._minutes = frames, target, minutes
        self._seconds, self._error = 0.0, 1.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compute the error with the clock stopped."""
        self._seconds += time.perf_counter() - self._started
        self._error = normalized_error(self._frames, self.model(self._frames, training=False).numpy())
        is_late = self._seconds > 60 * self._minutes
        self.model.stop_training = self._error <= self._target or is_late
        self._started = time.perf_counter()

    def figures(self) -> dict[str, float]:
        """Minutes, error, and whether it is the target."""
        reached = self._error <= self._target
        return {"minutes": self._seconds / 60, "error": self._error, "reached": reached}


def main() -> None:
    """Measure, print the table, write the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--component", choices=COMPONENTS, default="magnitude")
    parser.add_argument("--error", type=float, default=0.25, help="normalized error to reach")
    parser.add_argument("--minutes", type=float, default=60, help="limit of each training")
    options, figures = parser.parse_args(), {}

    def compare(task, checkpoint, budget, callbacks):
        if task.training.component == options.component:
            run = checkpoint.run
            frames = Frames.load(run).components[options.component].frames
            clocks = [Clock(frames, options.error, options.minutes) for _ in range(2)]
            fit(task, checkpoint, budget, clocks[:1])
            stock = model.build(run.settings).autoencoder
            stock.compile(optimizer=keras.optimizers.RMSprop(), loss="mse")
            stock.fit(frames, frames, 1, 10**6, verbose=0, callbacks=clocks[1:])
            figures.update(ours=clocks[0].figures(), stock_batch1=clocks[1].figures())
        checkpoint.save(task.training.key, [])  # for the end of the stage

    with tempfile.TemporaryDirectory() as folder:
        run = common.preprocessed(options.settings, Path(folder))
        common.run_stages(run, compare, autoencoder)
    rows = [["", "minutes", "error", "reached"]]
    for name, found in figures.items():
        rows.append([name, f"{found['minutes']:.2f}", f"{found['error']:.3f}", found["reached"]])
    common.report(rows, options.json, figures)
    ratio = figures["stock_batch1"]["minutes"] / figures["ours"]["minutes"]
    print(f"{'' if figures['stock_batch1']['reached'] else 'more than '}{ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
