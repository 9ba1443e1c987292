"""The batches of a training as a Keras dataset."""

from collections.abc import Callable

import numpy as np

from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.batches import parts_of


class EpochBatches(keras.utils.PyDataset):
    """The batches of an epoch, starting with `epoch`, or of a part of it if it is long.

    Keras counts each part as an epoch, so that callbacks are called and weights saved in between. On
    several `devices` batches are padded, because Keras needs equal shares; padding has a weight of 0.
    """

    def __init__(self, batches: Callable[[int], list], epoch: int = 0, devices: int = 1):
        super().__init__()
        self._batches, self._epoch, self._current = batches, epoch, batches(epoch)
        self._first, self._devices = 0, devices
        self.parts = parts_of(len(self._current))  # of an epoch

    def __len__(self) -> int:
        return len(self._current) // self.parts

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        inputs, targets = self._current[self._first + index]
        if self._devices == 1:
            return inputs, targets
        count = len(inputs)
        rows = np.arange(-(-count // self._devices) * self._devices)
        weights = np.where(rows < count, len(rows) / count, 0).astype(np.float32)
        rows = np.minimum(rows, count - 1)
        # copies, because Keras sums the shares of the first batch in place
        return inputs[rows], targets[rows], weights.reshape(-1, *[1] * (targets.ndim - 2))

    def fit(self, model: keras.Model, **arguments) -> None:
        """`model.fit` on these batches.

        On one device all epochs read from one endless dataset: a new iterator takes 20 ms per epoch. The
        dataset must not prefetch, because the batches of the next epoch depend on this one.
        """

        def endless():
            while True:
                yield from (self[index] for index in range(len(self)))

        if self._devices == 1:
            signature = tuple(tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in self[0])
            options = tf.data.Options()
            options.experimental_optimization.apply_default_optimizations = False
            options.autotune.enabled = False  # its thread delays the end of fit
            dataset = tf.data.Dataset.from_generator(endless, output_signature=signature)
            arguments |= {"x": dataset.with_options(options), "steps_per_epoch": len(self)}
        try:
            model.fit(**{"x": self, "shuffle": False, "verbose": 0, **arguments})
        finally:  # TensorFlow keeps each generator, and with it this object, for the life of the process
            del self._batches, self._current

    def select(self, keras_epoch: int) -> tuple[int, int]:
        """Prepare the batches of a Keras epoch; its `position`."""
        epoch, self._first = self.position(keras_epoch)
        if epoch != self._epoch:
            self._current = []  # first, so that its memory is used again
            self._epoch, self._current = epoch, self._batches(epoch)
        return epoch, self._first

    def position(self, keras_epoch: int) -> tuple[int, int]:
        """Epoch and step at which a Keras epoch starts."""
        epoch, part = divmod(keras_epoch, self.parts)
        return epoch, part * len(self)
