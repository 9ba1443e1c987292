"""Minutes to a reconstruction error: our training, and what a user would otherwise run.

Both train the same autoencoder from the same initial weights on the frames of the settings' song (run
preprocess.py first): ours with its batch, optimizer and schedule over ae-epoch x ae-iteration epochs;
the other with model.fit, batch 1, RMSprop at Keras's defaults. The error is that of the whole song,
dropout off, taken after each epoch with the clock stopped.
"""

import time

import common

from joanna import dataset, model, settings, training
from joanna.backend import keras


def main() -> None:
    """Measure, print the table, write the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--component", choices=dataset.COMPONENTS, default="magnitude")
    parser.add_argument("--error", type=float, default=0.25, help="normalised error to reach")
    parser.add_argument("--minutes", type=float, default=60, help="when to give up")
    options = parser.parse_args()
    chosen = settings.load(options.settings)
    path = settings.output_folder(chosen) / "frames.h5"
    frames = dataset.load_frames(path, chosen)[0][options.component]["frames"]

    class Clock(keras.callbacks.Callback):
        """Stops the clock while the error is taken, and training once it is reached."""

        def on_train_begin(self, logs=None):
            self.seconds, self.error, self.began = 0.0, 1.0, time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds += time.perf_counter() - self.began
            predicted = self.model(frames, training=False).numpy()
            self.error = training.normalised_error(frames, predicted)
            late = self.seconds > 60 * options.minutes
            self.model.stop_training = self.error <= options.error or late
            self.began = time.perf_counter()

    figures = {}
    for name in ("ours", "stock_batch1"):
        network, clock = model.build(chosen)["autoencoder"], Clock()
        if name == "ours":
            epochs = chosen["ae-epoch"] * chosen["ae-iteration"]
            size = chosen["batch-size"]
            training.compile_for(network, epochs * -(-len(frames) // size), chosen["learning-rate"])
        else:
            network.compile(optimizer=keras.optimizers.RMSprop(), loss="mse")
            epochs, size = 10**6, 1
        network.fit(frames, frames, size, epochs, verbose=0, callbacks=[clock])
        reached = clock.error <= options.error
        figures[name] = {"minutes": clock.seconds / 60, "error": clock.error, "reached": reached}
    rows = [["", "minutes", "error", "reached"]]
    for name, found in figures.items():
        rows.append([name, f"{found['minutes']:.2f}", f"{found['error']:.3f}", found["reached"]])
    common.report(rows, options.json, figures)
    ratio = figures["stock_batch1"]["minutes"] / figures["ours"]["minutes"]
    print(f"{'' if figures['stock_batch1']['reached'] else 'more than '}{ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
