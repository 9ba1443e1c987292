"""Minutes to a reconstruction error of --error: our training, and stock Keras.

Both train the autoencoder of a component from the same weights on the song of the settings: ours as
autoencoder.py does, over ae-epoch x ae-iteration epochs; stock Keras with model.fit, batch 1, RMSprop.
The error is that of the whole song, without dropout, computed after each epoch with the clock stopped.
A training ends after --minutes at the latest.
"""

import common
from train_speed import Clock, stock

import autoencoder
from joanna.artifacts import Frames
from joanna.spectra import normalized_error
from joanna.training import fit


def main() -> None:
    """Measure, print the table, write the figures."""
    options = common.arguments(__doc__, component="magnitude", error=0.25, minutes=60.0)
    figures: list[dict] = []

    def compare(task, checkpoint, budget):
        frames = Frames.load(checkpoint.run).components[options.component].frames

        def stop(clock):
            predicted = clock.model(frames, training=False).numpy()
            error, minutes = normalized_error(frames, predicted), sum(clock.epochs) / 60
            figures[-1] |= {"minutes": minutes, "error": error, "reached": error <= options.error}
            return error <= options.error or minutes > options.minutes

        figures.append({"training": "ours"})
        fit(task, checkpoint, budget, [Clock(stop)])
        figures.append({"training": "stock_batch1"})
        network = stock(task, checkpoint.run.settings, "rmsprop")
        network.fit(frames, frames, 1, 10**6, verbose=0, callbacks=[Clock(stop)])

    common.run_stages(options.settings, compare, autoencoder, component=options.component)
    common.report(figures, options.json)
    more = "" if figures[1]["reached"] else "more than "
    print(f"{more}{figures[1]['minutes'] / figures[0]['minutes']:.1f} times as fast")


if __name__ == "__main__":
    main()
