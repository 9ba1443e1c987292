"""Stage 2: train a denoising autoencoder on phase and one on magnitude, and encode the song.

Reads output/NAME/frames.h5; writes weights/NAME/{phase,magnitude}-encoder.weights.h5 and
output/NAME/coded-file.h5. During training, output/NAME/previews/ and report.html show the progress.

    python autoencoder.py demo                        # after preprocess.py demo
    python autoencoder.py demo ae-epoch=125            # fifty epochs more than the preset
    python autoencoder.py demo dropout=0.2 name=less  # a separate run, after preprocess.py demo name=less
"""

if __name__ == "__main__":
    from joanna import startup

    startup.prepare()

import numpy as np

from joanna import cli, files
from joanna.artifacts import Frames, Latents
from joanna.batches import Batches, even_batches
from joanna.checkpoint import Checkpoint
from joanna.errors import UserError
from joanna.resources import TimeBudget, check_memory
from joanna.run import Run, Training
from joanna.spectra import normalized_error

_ROWS = 256  # frames predicted at a time


def main(run: Run) -> None:
    """Run the stage."""
    budget, frames = TimeBudget(run.settings), Frames.load(run)
    checkpoints = [Checkpoint(run, name, "autoencoder", frames.digest) for name in frames.components]
    if run.settings["load-weights"] and _finished(run, checkpoints):
        print(f"up to date, skipped: {run.latents_file} and the weights of the autoencoders")
        return
    check_memory(run.settings, "training", len(frames))
    from joanna.fast import released_custom_gradients  # TensorFlow takes seconds to import
    from joanna.previews import Previews

    latents, previews = {}, Previews(run, frames, budget)
    for checkpoint in checkpoints:
        with released_custom_gradients():
            latents[checkpoint.component] = _train(checkpoint, frames, budget, previews)
    Latents(latents, _digests(checkpoints)).save(run)
    run.save_settings()
    print(f"wrote {run.latents_file}")


def _train(checkpoint, song, budget, previews):
    """Train an autoencoder on the frames of its component; their latents ``(M, Z)``."""
    from joanna import fast, model
    from joanna.training import Task, fit

    run, training = checkpoint.run, Training(checkpoint.component, "autoencoder")
    frames = song.components[training.component].frames
    with fast.strategy().scope():
        networks = model.build(run.settings)
    # an uncompiled copy: the trained model would be saved with its optimizer
    checkpoint.resume(model.sequential(frames.shape[1:], networks.autoencoder.layers, "saved"))

    def batches(epoch):
        order = run.rng("autoencoder", training.component, epoch).permutation(len(frames))
        return Batches(even_batches(order, run.settings["batch-size"]), lambda part: (frames[part],) * 2)

    def initialize():
        networks.autoencoder.set_weights(model.build(run.settings).autoencoder.get_weights())

    task = Task(training, networks.autoencoder, batches, run.settings["learning-rate"], initialize)
    fit(task, checkpoint, budget, previews.callbacks(training, checkpoint, networks.autoencoder))
    checkpoint.finalize()
    print(f"{training.label}: error {normalized_error(frames, _predict(networks.autoencoder, frames)):.3f}")
    latents = _predict(networks.encoder, frames)
    print(f"{training.component} latents: std {latents.std():.2f}")
    return latents


def _predict(network, frames):
    """`network.predict`, which needs three times the memory of its output."""
    outputs = np.empty((len(frames), network.output_shape[-1]), np.float32)
    for start in range(0, len(frames), _ROWS):
        block = frames[start : start + _ROWS]
        # several devices return as many copies
        outputs[start : start + _ROWS] = network.predict_on_batch(block)[: len(block)]
    return outputs


def _digests(checkpoints):
    return {checkpoint.component: files.digest(checkpoint.path) for checkpoint in checkpoints}


def _finished(run, checkpoints):
    """Whether the weights are fully trained and encoded the coded file."""
    try:
        finished = all(checkpoint.finished() for checkpoint in checkpoints)
        return finished and Latents.load(run).weights == _digests(checkpoints)
    except UserError:
        return False


if __name__ == "__main__":
    groups = ("every stage", "the networks", "training", "training the autoencoders")
    cli.run_stage(main, __doc__, (*groups, "file names of the autoencoders"))
