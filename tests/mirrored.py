"""Trains on one device and on two logical ones in a process of its own; run by test_training.py."""

import json
import sys
from pathlib import Path

import numpy as np
from helpers import tiny_run, tone, write_wav

from joanna import fast, model
from joanna.backend import tensorflow as tf
from joanna.checkpoint import Checkpoint
from joanna.resources import TimeBudget
from joanna.run import Training
from joanna.training import Task, compile_model, epochs_within, fit

ROWS = (7, 1)  # of the batches; two devices cannot share them evenly


def train(strategy, root):
    """Losses of six epochs, and the weights at the end."""
    root.mkdir()
    source = write_wav(root / "song.wav", tone(0.1))
    run = tiny_run(root, f"source={source}", "layer-count=1", "lstm-iteration=6")
    with strategy.scope():
        network = model.build(run.settings).latent_decoder
    checkpoint = Checkpoint(root / "x.weights.h5", run, "lstm", "song")
    checkpoint.resume(model.sequential(network.input_shape[1:], network.layers, "saved"))
    rng = np.random.default_rng(0)
    latents, frames = (rng.normal(size=(7, 6, width)).astype(np.float32) for width in (56, 64))
    batches = [(latents[:rows], frames[:rows]) for rows in ROWS]
    task = Task(Training("phase", "spliced"), network, lambda epoch: batches, 0.01)
    if strategy.num_replicas_in_sync > 1:  # as with minutes
        assert epochs_within(lambda: 60.0, task, compile_model(network)) > 1
    fit(task, checkpoint, TimeBudget(run.settings))
    weights = np.concatenate([weight.ravel() for weight in network.get_weights()])
    return [loss for _, _, loss in checkpoint.state.history["spliced"]], weights


if __name__ == "__main__":
    folder, one = Path(sys.argv[1]), tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = fast.strategy()
    losses, weights = train(one, folder / "one")
    _, other_weights = train(two, folder / "two")
    difference = float(np.abs(weights - other_weights).max())
    print(json.dumps([two.num_replicas_in_sync, losses[0], losses[-1], difference]))
