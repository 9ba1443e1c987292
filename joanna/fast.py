"""Keras's LSTM layer, Adam and generation loop, faster on a CPU.

The LSTM layer and Adam hold the same variables under the same names as the stock ones, so weights move
freely between them. On a GPU the stock layer and Adam run: that LSTM uses the fused cuDNN kernels.
"""

import contextlib
import functools
import gc
from collections.abc import Iterator, Sequence

import numpy as np

from joanna.backend import keras
from joanna.backend import tensorflow as tf

_ROWS = 256  # frames encoded at a time


def on_gpu() -> bool:
    """Whether TensorFlow will place the layers on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


@functools.cache  # the keys of the devices' exchange must not start again
def strategy() -> tf.distribute.Strategy:
    """Distribution of the training: mirrored if there are two or more GPUs."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) > 1:
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


@contextlib.contextmanager
def released_custom_gradients() -> Iterator[None]:
    """Free the memory of networks trained within the context when it ends.

    TensorFlow registers each traced custom gradient for the life of the process, and with it the graph,
    the weights and the moments. It has no public way to unregister one.
    """
    from tensorflow.python.framework.ops import gradient_registry

    registry = gradient_registry._registry
    before = set(registry)
    yield
    for name in set(registry) - before:
        del registry[name]
    gc.collect()


class LSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` with default activations, a zero initial state and return_sequences.

    The stock layer adds up the gradient of each weight frame by frame. Here the projection of the input,
    before the recurrence, and the gradients of the weights, after it, are one matrix product over all
    frames each (Appleyard, Kocisky and Blunsom 2016, arXiv:1604.01946). The loop holds only the products
    that need the previous frame.
    """

    def call(self, sequences, initial_state=None, mask=None, training=False) -> tf.Tensor:
        if on_gpu() or initial_state is not None or mask is not None:
            return super().call(sequences, initial_state, mask, training)
        return _lstm(sequences, *(tf.convert_to_tensor(weight) for weight in self.weights))


def _cell(gate, c):
    """Gates before activation ``(N, 4 U)`` and cell state ``(N, U)`` -> output, cell state, gates."""
    i, f, g, o = tf.split(gate, 4, axis=1)
    i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
    c = f * c + i * g
    return o * tf.tanh(c), c, tf.concat([i, f, g, o], axis=1)


@tf.custom_gradient
def _lstm(x, kernel, recurrent, bias):
    batch, length, width = tf.unstack(tf.shape(x))
    units = recurrent.shape[0]
    # time before batch: the rows of a frame are contiguous
    rows = tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, x.shape[2]])
    inputs = tf.reshape(tf.matmul(rows, kernel) + bias, [length, batch, 4 * units])

    def arrays(count):
        return [tf.TensorArray(tf.float32, length) for _ in range(count)]

    def step(t, h, c, gates, cells, outputs):
        h, c, gate = _cell(inputs[t] + tf.matmul(h, recurrent), c)
        return t + 1, h, c, gates.write(t, gate), cells.write(t, c), outputs.write(t, h)

    zero = tf.zeros([batch, units])
    _, _, _, gates, cells, outputs = tf.while_loop(
        lambda t, *_: t < length, step, [0, zero, zero, *arrays(3)], parallel_iterations=1
    )
    gates, cells, outputs = gates.stack(), cells.stack(), outputs.stack()

    def gradient(upstream):
        upstream = tf.transpose(upstream, [1, 0, 2])
        before = tf.concat([zero[None], cells[:-1]], axis=0)
        transposed = tf.transpose(recurrent)  # once, not in the product of every step

        def back(t, dh, dc, dgates):
            i, f, g, o = tf.split(gates[t], 4, axis=1)
            dh += upstream[t]
            squashed = tf.tanh(cells[t])
            dc += dh * o * (1 - squashed * squashed)
            di, df = dc * g * i * (1 - i), dc * before[t] * f * (1 - f)
            dg, do = dc * i * (1 - g * g), dh * squashed * o * (1 - o)
            dgate = tf.concat([di, df, dg, do], axis=1)
            return t - 1, tf.matmul(dgate, transposed), dc * f, dgates.write(t, dgate)

        _, _, _, dgates = tf.while_loop(
            lambda t, *_: t >= 0, back, [length - 1, zero, zero, *arrays(1)], parallel_iterations=1
        )
        flat = dgates.concat()
        past = tf.reshape(tf.concat([zero[None], outputs[:-1]], axis=0), [-1, units])
        dx = tf.reshape(tf.matmul(flat, kernel, transpose_b=True), [length, batch, width])
        return (
            tf.transpose(dx, [1, 0, 2]),
            tf.matmul(rows, flat, transpose_a=True),
            tf.matmul(past, flat, transpose_a=True),
            tf.reduce_sum(flat, axis=0),
        )

    return tf.transpose(outputs, [1, 0, 2]), gradient


class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma and Ba 2015) that updates a variable in one pass over memory.

    On several devices the gradients are averaged before they are clipped. An update is the sum over the
    devices, so `global_clipnorm` is to be divided by their number.
    """

    def build(self, variables: list) -> None:
        super().build(variables)
        self._places = {variable.value.ref(): place for place, variable in enumerate(variables)}

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        replica = tf.distribute.get_replica_context()
        count = replica.num_replicas_in_sync
        if count > 1:
            grads = [grad / count for grad in replica.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        place = self._places.get(variable.ref())
        if place is None or on_gpu():  # None: the copy on one of several devices
            super().update_step(gradient, variable, learning_rate)
            return
        # the moments of each variable in turn, after the iterations and a learning rate without a schedule
        first = len(self.variables) - 2 * (len(self._places) - place)
        momentum, velocity = self.variables[first : first + 2]
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def _apply(layers, values, rates, seeds, sizes):
    """Output of Dense, ELU and Dropout layers, with dropout at `rates` ``(clips,)`` unless they are None.

    `values` are the rows of several clips, `sizes` of each; `seeds` ``(clips, layers, 2)`` of their dropout.
    """
    clips = seeds.shape[0]
    for place, layer in enumerate(layers):
        if rates is not None and isinstance(layer, keras.layers.Dropout):
            parts = tf.split(values, sizes, num=clips)
            values = tf.concat([_dropout(parts[k], rates[k], seeds[k, place]) for k in range(clips)], 0)
        else:
            values = layer(values)
    return values


def _dropout(values, rate, seed):
    """`tf.nn.experimental.stateless_dropout` at a float64 rate, which may be a tensor, bit for bit."""
    kept = tf.random.stateless_uniform(tf.shape(values), seed) >= tf.cast(rate, tf.float32)
    return tf.where(kept, values * tf.cast(1 / (1 - rate), tf.float32), 0.0)


class DropoutEncoder:
    """Encodes frames with dropout, as the encoder is trained and as it is used for generation."""

    def __init__(self, encoder: keras.Sequential, rate: float):
        self._layers = encoder.layers
        rates = np.array([rate]) if rate else None
        self._apply = tf.function(
            lambda frames, seeds: _apply(encoder.layers, frames, rates, seeds, tf.shape(frames)[:1]),
            reduce_retracing=True,
        )

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Latents ``(M, Z)`` of frames ``(M, F)``; `rng` seeds the dropout."""
        latents = []
        for start in range(0, len(frames), _ROWS):
            seeds = tf.constant(_dropout_seeds(self._layers, rng)[None])
            latents.append(self._apply(tf.constant(frames[start : start + _ROWS]), seeds).numpy())
        return np.concatenate(latents)


def _dropout_seeds(layers, rng):
    return rng.integers(2**31, size=(len(layers), 2), dtype=np.int32)


class Windows:
    """All windows in progress of several clips, advanced together frame by frame.

    Each window starts its LSTM layers from a zero state and reads its frames one after the other.
    Processed one window after the other, every frame of every window would read all weights. But a
    window's next frame is known as soon as the previous window has made the same step. So each step
    advances all windows in progress by one frame, as rows of one batch, and the weights are read once
    per frame of all clips.
    """

    def __init__(
        self,
        network: keras.Sequential,
        lengths: Sequence[int],
        dropout: float | np.ndarray = 0.0,
        rngs: Sequence[np.random.Generator] = (),
    ):
        """Windows of `lengths` frames, one for each clip; `network` is Dense, LSTM, then Dense layers.

        `dropout` is the rate of its dropout layers, which `rngs`, one for each clip, seed: a number, or one
        for each step and clip ``(steps, clips)``, of which the last stays.
        """
        self.lengths = tuple(lengths)
        layers = network.layers
        lstms = [layer for layer in layers if isinstance(layer, keras.layers.LSTM)]
        self._before = before = layers[: layers.index(lstms[0])]
        after = layers[layers.index(lstms[-1]) + 1 :]
        weights = [[tf.convert_to_tensor(weight) for weight in layer.weights] for layer in lstms]
        self._states = [[tf.zeros([0, layer.units])] * 2 for layer in lstms]
        self._rows = [0] * len(lengths)  # of the states; windows in progress of each clip
        self._rates, self._count = dropout + np.zeros((1, len(lengths))), 0
        # without dropout theirs stay untouched, as in earlier versions
        self._rngs = rngs if rngs and self._rates.any() else [np.random.default_rng(0)] * len(lengths)

        def step(values, sizes, seeds, rates, rows, states):
            origins, inputs, wanted = rows
            values = _apply(before, values, rates if self._rates.any() else None, seeds, sizes)
            updated = []
            for layer, ((kernel, recurrent, bias), state) in enumerate(zip(weights, states, strict=True)):
                # a new window starts from the zeros after the last row
                h, c = (tf.gather(tf.pad(part, [[0, 1], [0, 0]]), origins) for part in state)
                gate = tf.matmul(values, kernel) + bias
                gate = gate if layer else tf.gather(gate, inputs)
                values, c, _ = _cell(gate + tf.matmul(h, recurrent), c)
                updated.append([values, c])
            values = tf.gather(values, wanted)
            for layer in after:
                values = layer(values)
            return values, updated

        self._step = tf.function(step, reduce_retracing=True)

    def push(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Start a window of each clip and advance all windows in progress by one frame.

        Args:
            frames: of each clip, ``(1, F)``, the input of all its windows, or ``(R, F)``, the input of
                each, oldest first and the new one last; R is the number of its windows in progress, at
                most its length. ``(0, F)`` ends the clip.

        Returns:
            Of each clip, the prediction of the oldest window ``(1, F)``, or of all windows ``(R, F)``,
            float32. After as many calls as its length the oldest window is a whole one.
        """
        # rows of the states and of the input, for each window; windows whose prediction is wanted
        origins, inputs, wanted = rows = [], [], []  # type: tuple[list[int], list[int], list[int]]
        counts = []  # of those, for each clip
        first, given, zeros = 0, 0, sum(self._rows)
        for clip, (values, length) in enumerate(zip(frames, self.lengths, strict=True)):
            old, self._rows[clip] = self._rows[clip], 0
            if len(values):
                kept = range(first + (old == length), first + old)  # without a whole window
                self._rows[clip] = count = len(kept) + 1
                counts.append(1 if len(values) == 1 else count)
                wanted += range(len(origins), len(origins) + counts[-1])
                inputs += [given] * count if len(values) == 1 else range(given, given + count)
                origins += [*kept, zeros]
            else:
                counts.append(0)
            first, given = first + old, given + len(values)
        seeds = np.stack([_dropout_seeds(self._before, rng) for rng in self._rngs])
        sizes = np.array([len(values) for values in frames], np.int32)
        rates = self._rates[min(self._count, len(self._rates) - 1)]
        self._count += 1
        given_arrays = map(tf.constant, (np.concatenate(frames), sizes, seeds, rates))
        places = [tf.constant(each, tf.int32) for each in rows]
        values, self._states = self._step(*given_arrays, places, self._states)
        return np.split(values.numpy(), np.cumsum(counts)[:-1])
