"""Stage 3: splice two LSTM layers into each autoencoder, then train the generator's new ones.

Reads output/NAME/{frames,coded-file}.h5 and the autoencoders' weights; writes
weights/NAME/{phase,magnitude}-lstm-file.weights.h5. While it trains, output/NAME/previews/ and
report.html show how far it is.

    python lstm.py demo                   # after autoencoder.py demo
    python lstm.py demo lstm-iteration=4  # goes on from the two that are done
    python lstm.py evening                # its share of the preset's minutes
"""

import math

import joanna  # noqa: F401 # isort: skip - it says which packages are missing

import numpy as np

from joanna import budget, dataset, memory, store
from joanna import settings as settings_module
from joanna.checkpoint import Checkpoint, load_weights
from joanna.errors import UserError

_OWN_EPOCHS = 8  # epochs for which the generator's own predictions are kept


def main(settings: dict) -> None:
    """Run the stage with a checked settings dict."""
    output, weights = settings_module.output_folder(settings), settings_module.weights_folder(settings)
    songs, frames = dataset.load_frames(output / "frames.h5", settings)
    latents, attributes = dataset.load_latents(output / (settings["coded-file"] + ".h5"), settings)
    dataset.check_lengths(settings, len(latents["phase"]), int(frames["blocks"]))
    epochs = settings["lstm-epoch"] * settings["lstm-iteration"]
    checkpoints = {
        component: Checkpoint(
            weights / f"{component}-{settings['lstm-file']}.weights.h5",
            settings,
            "lstm",
            attributes["identity"],
        )
        for component in dataset.COMPONENTS
    }
    if settings["load-weights"] and all(
        checkpoint.finished({"spliced": epochs, "new": epochs}) for checkpoint in checkpoints.values()
    ):
        print(f"nothing has changed: {weights}/*-{settings['lstm-file']} are as the settings say")
        return
    memory.check(settings, "training", len(latents["phase"]))
    from joanna import fast  # TensorFlow takes seconds to import
    from joanna.watch import Watch

    watch = Watch(settings, songs)
    encoders = dict(zip(dataset.COMPONENTS, attributes["weights"], strict=True))
    for component, checkpoint in checkpoints.items():
        song, code = songs[component]["frames"], latents[component]
        with fast.forgetting():
            _train(settings, component, checkpoint, encoders[component], song, code, watch)
            watch.end()
    settings_module.save(settings)
    print(f"next: {settings_module.command('generate')}")


def _train(settings, component, checkpoint, encoder, song, code, watch):
    """Both trainings of a component, from its frames ``(M, F)`` and their latents ``(M, Z)``.

    `encoder` is the checksum of the weights that the latents were made with.
    """
    from joanna import fast, model, training

    length = settings["window-length"]
    iterations = settings["lstm-epoch"], settings["lstm-iteration"]
    with fast.strategy().scope():
        networks = model.build(settings)
    if not checkpoint.resume(networks["network"]):
        path = settings_module.weights_folder(settings) / (
            settings[f"{component}-encoder"] + ".weights.h5"
        )
        load_weights(networks["autoencoder"], path, settings, "autoencoder")
        if store.seal(path) != encoder:
            raise UserError(
                f"{path} is not what the coded file was made with; "
                f"run: {settings_module.command('autoencoder')}"
            )
        model.let_through(networks, code)
    spliced = checkpoint.of("spliced")
    if spliced["epochs"] < (max(1, spliced["goal"]) if settings["minutes"] else math.prod(iterations)):
        # the generator's target is about to change
        checkpoint.progress.pop("new", None)
        checkpoint.history.pop("new", None)
        checkpoint.moments.pop("new", None)
        checkpoint.held.clear()

    def fit(trained, name, rate, heard, *data):
        training.train(
            networks[trained],
            _windows(settings, f"{component} {name}", checkpoint.of(name), checkpoint.held, *data),
            checkpoint,
            name,
            f"{component} {name} LSTM layers",
            *iterations,
            settings[rate],
            budget.limit(settings, component, name),
            watch.begin(checkpoint, component, name, networks[heard]),
        )

    # The encoder stays as it is: its latents are the coded file. The decoder goes on learning.
    fit("spliced-tail", "spliced", "learning-rate", "spliced", code, song)
    error = training.normalised_error(song, _overlapping(networks["spliced-tail"], code, length))
    print(f"{component} spliced autoencoder: error {error:.3f}")
    for layer in networks["spliced-lstm"].layers:
        layer.trainable = False
    target = _overlapping(networks["spliced-lstm"], code, length)

    def own():
        """Latents of the frames it predicts, each from the song's before it: what it will hear."""
        put_out = _overlapping(networks["generator"], code[:-1], length)
        frames = networks["decoder"].predict(put_out, batch_size=256, verbose=0)
        heard = networks["encoder"].predict(frames, batch_size=256, verbose=0)
        return np.concatenate([code[:1], heard[:-1]])

    fit("generator", "new", "generator-rate", "network", code[:-1], target[1:], own)
    checkpoint.done()
    error = training.normalised_error(target[1:], _overlapping(networks["generator"], code[:-1], length))
    print(f"{component} generator: error {error:.3f}")
    print(f"wrote {checkpoint.path}")


def _windows(settings, place, progress, held, inputs, targets, own=None):
    """Epoch -> batches of windows that start anywhere; each frame is seen once on average.

    With `own`, which gives inputs of the network's own making, a share of the windows that rises to
    own-share is taken from them (scheduled sampling: Bengio et al. 2015, arXiv:1506.03099). They are
    kept in `held` for some epochs.
    """
    from joanna import training

    length, size = settings["window-length"], settings["window-batch"]
    total = -(-len(inputs) // length)

    def batches(epoch):
        rng = training.epoch_rng(settings["random-seed"], place, epoch)
        starts = dataset.random_windows(total, len(inputs), length, rng)
        windows = dataset.cut(inputs, starts, length)
        share = settings["own-share"] * min(1, 2 * (epoch + 1) / max(1, progress["goal"])) if own else 0
        if share:
            if held.get("since") != epoch // _OWN_EPOCHS:
                held.update(since=np.array(epoch // _OWN_EPOCHS), own=own())
            chosen = rng.random(total) < share
            windows[chosen] = dataset.cut(held["own"], starts[chosen], length)
        wanted = dataset.cut(targets, starts, length)
        return [(windows[part], wanted[part]) for part in dataset.even_parts(np.arange(total), size)]

    return batches


def _overlapping(network, inputs, length):
    """`network` over a song ``(M, Z)``, window by window -> ``(M, .)``.

    Windows overlap by half and only their later half is kept, so that every output but the first
    window's has at least half a window of past behind it.
    """
    step = max(1, length // 2)
    last = len(inputs) - length
    starts = np.append(np.arange(0, last, step), last)
    outputs = network.predict(dataset.cut(inputs, starts, length), batch_size=16, verbose=0)
    result = np.empty((len(inputs), outputs.shape[-1]), np.float32)
    result[:length] = outputs[0]
    for start, output in zip(starts[1:], outputs[1:], strict=True):
        result[start + length - step : start + length] = output[length - step :]
    return result


if __name__ == "__main__":
    sections = ("every stage", "the networks", "training", "training the LSTM layers")
    files = "file names of the autoencoders", "file names of the LSTM layers"
    settings_module.run_stage(main, __doc__, (*sections, *files))
