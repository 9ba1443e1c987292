"""Trains on one device and on two logical ones in a process of its own; run by test_training.py."""

import json

import numpy as np
from conftest import TINY

from joanna import fast, model, settings, training
from joanna.backend import tensorflow as tf


def curve(strategy):
    """Error after each of six epochs, and the weights at the end."""
    errors = []
    with strategy.scope():
        network = model.build(settings.load([*TINY, "dropout=0"]))["spliced"]
    frames = np.random.default_rng(0).normal(size=(8, 6, 64)).astype("float32")

    class Errors:
        """Takes the network's error where a checkpoint would be written."""

        def __init__(self):
            self.settings, self.moments, self.afresh = {"random-seed": 0}, {}, False
            self.history = {}
            self.place = {"epochs": 0, "steps": 0, "halvings": 0, "goal": 0}

        def of(self, name):
            return self.place

        def save(self, name, moments):
            errors.append(training.normalised_error(frames, network.predict(frames, verbose=0)))

    def batches(epoch):
        return [(frames, frames)]

    assert training._epochs_within(lambda: 60.0, network, batches) > 1  # as with minutes set
    training.train(network, batches, Errors(), "test", "test", 1, 6, 0.01)
    weights = np.concatenate([weight.ravel() for weight in network.get_weights()])
    return errors, weights


if __name__ == "__main__":
    one = tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = fast.strategy()
    (first, weights), (second, others) = curve(one), curve(two)
    found = {"devices": two.num_replicas_in_sync, "one": first, "two": second}
    print(json.dumps({**found, "difference": float(np.abs(weights - others).max())}))
