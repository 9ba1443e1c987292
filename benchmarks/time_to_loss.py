"""Minutes to a reconstruction error of --error: our training, and stock Keras.

Both train the autoencoder of a component from the same weights on the song of the settings: ours as
autoencoder.py does, over ae-epoch x ae-iteration epochs; stock Keras with model.fit, batch 1, RMSprop.
The error is that of the whole song, without dropout, computed after each epoch with the clock stopped.
A training ends after --minutes at the latest.
"""

from functools import partial

import common
from train_speed import Clock, stock

import autoencoder
from joanna.artifacts import Frames
from joanna.spectra import normalized_error
from joanna.training import fit


def main() -> None:
    """Measure and print the table."""
    options = common.arguments(__doc__, component="magnitude", error=0.25, minutes=60.0)
    figures: list[dict] = [{"training": "ours"}, {"training": "stock_batch1"}]

    def compare(task, checkpoint, budget):
        frames = Frames.load(checkpoint.run).components[options.component].frames

        def stop(row, clock):
            predicted = clock.model(frames, training=False).numpy()
            error, minutes = normalized_error(frames, predicted), sum(clock.epochs) / 60
            row |= {"minutes": minutes, "error": error, "reached": error <= options.error}
            return row["reached"] or minutes > options.minutes

        own_clock, stock_clock = (Clock(partial(stop, row)) for row in figures)
        network = stock(task, checkpoint.run.settings, "rmsprop")
        fit(task, checkpoint, budget, [own_clock])
        network.fit(frames, frames, 1, 10**6, verbose=0, callbacks=[stock_clock])

    common.run_stages(options.settings, compare, options.component, autoencoder)
    common.report(figures)


if __name__ == "__main__":
    main()
