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
from joanna.training import Task, fit

ROWS = 4 * (7, 1, 8)  # of the batches; two devices cannot share 7 or 1 evenly


def train(strategy, root):
    """Weights before and after an epoch."""
    root.mkdir()
    source = write_wav(root / "song.wav", tone(0.1))
    run = tiny_run(root, f"source={source}", "layer-count=1", "minutes=0.01")  # measures, trains an epoch
    with strategy.scope():
        network = model.build(run.settings).latent_decoder
    checkpoint = Checkpoint(run, "phase", "lstm", "song")
    checkpoint.resume(model.sequential(network.input_shape[1:], network.layers, "saved"))
    rng = np.random.default_rng(0)
    latents, frames = (rng.normal(size=(8, 6, width)).astype(np.float32) for width in (56, 64))
    batches = [(latents[:rows], frames[:rows]) for rows in ROWS]
    before = np.concatenate([weight.ravel() for weight in network.get_weights()])
    task = Task(Training("phase", "spliced"), network, lambda epoch: batches, 0.01, lambda: None)
    fit(task, checkpoint, TimeBudget(run.settings, lambda: 0.0))
    return before, np.concatenate([weight.ravel() for weight in network.get_weights()])


if __name__ == "__main__":
    folder, one = Path(sys.argv[1]), tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = fast.strategy()
    (before, trained), (_, trained_on_two) = train(one, folder / "one"), train(two, folder / "two")
    change, difference = (float(np.abs(trained - other).max()) for other in (before, trained_on_two))
    print(json.dumps({"devices": two.num_replicas_in_sync, "change": change, "difference": difference}))
