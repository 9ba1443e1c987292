"""The networks. No other module builds layers.

Widths at the defaults: frame 2048 -> 1798 -> 1548 -> 1298 -> 1048 -> 1298 -> 1548 -> 1798 -> 2048.
"""

from dataclasses import dataclass

import numpy as np

from joanna import fast
from joanna.backend import keras
from joanna.settings import bottleneck

layers = keras.layers

# Without this penalty the latents grow to a std near 10, ten times the range of an LSTM's output.
_LATENT_PENALTY = 1e-5


def encoder_layers(settings: dict) -> list[keras.layers.Layer]:
    """(Dense, ELU, Dropout) x layer-count, each step dim-decrease narrower than its input."""
    result = []
    for step in range(1, settings["layer-count"] + 1):
        units = settings["frame-length"] - step * settings["dim-decrease"]
        seed = settings["random-seed"] + step
        penalty = keras.regularizers.L2(_LATENT_PENALTY) if step == settings["layer-count"] else None
        result += [
            layers.Dense(units, name=f"encoder-dense-{step}"),
            layers.ELU(name=f"encoder-elu-{step}", activity_regularizer=penalty),
            layers.Dropout(settings["dropout"], seed=seed, name=f"encoder-dropout-{step}"),
        ]
    return result


def lstm_layers(settings: dict, count: int, name: str) -> list[keras.layers.Layer]:
    """`count` LSTM layers as wide as the bottleneck that return all sequences.

    Their recurrent weights are not orthogonal, as by default in Keras: that takes seconds per network,
    and `initialize_near_identity` shrinks the first weights.
    """
    arguments = {"return_sequences": True, "recurrent_initializer": "glorot_uniform"}
    names = [f"{name}-lstm-{step}" for step in range(1, count + 1)]
    return [fast.LSTM(bottleneck(settings), name=layer_name, **arguments) for layer_name in names]


def sequential(shape: tuple, parts: list[keras.layers.Layer], name: str) -> keras.Sequential:
    """A model of `parts` in order on inputs of `shape` (without the batch axis)."""
    return keras.Sequential([keras.Input(shape), *parts], name=name)


@dataclass(frozen=True)
class Networks:
    """All networks of one component. They share their layers.

    Frames have the shape ``(N, F)`` or, of sequences, ``(N, T, F)``, latents ``(N, Z)`` or ``(N, T, Z)``.
    """

    autoencoder: keras.Sequential  # frames -> frames, 4 x layer-count layers (16)
    encoder: keras.Sequential  # frames -> latents
    decoder: keras.Sequential  # latents -> frames
    spliced: keras.Sequential  # sequences -> sequences, the autoencoder with two LSTM layers (18)
    spliced_lstm: keras.Sequential  # sequences of latents -> output of the two LSTM layers
    latent_decoder: keras.Sequential  # sequences of latents -> sequences, LSTM layers and decoder
    generator: keras.Sequential  # sequences of latents -> the same, its LSTM layers, then spliced
    predictor: keras.Sequential  # sequences -> the next frame of each; holds every weight


def build(settings: dict) -> Networks:
    """Build all networks of one component, with weights that depend on random-seed only."""
    keras.utils.set_random_seed(settings["random-seed"])
    width, latent = settings["frame-length"], bottleneck(settings)
    encoder, increase = encoder_layers(settings), settings["dim-decrease"]
    steps = range(1, settings["layer-count"] + 1)  # linear layers back up to the frame's width
    decoder = [layers.Dense(latent + step * increase, name=f"decoder-dense-{step}") for step in steps]
    spliced = lstm_layers(settings, 2, "spliced")
    generator = lstm_layers(settings, settings["lstm-layers"], "generator")
    return Networks(
        autoencoder=sequential((width,), encoder + decoder, "autoencoder"),
        encoder=sequential((width,), encoder, "encoder"),
        decoder=sequential((latent,), decoder, "decoder"),
        spliced=sequential((None, width), encoder + spliced + decoder, "spliced"),
        spliced_lstm=sequential((None, latent), spliced, "spliced-lstm"),
        latent_decoder=sequential((None, latent), spliced + decoder, "latent-decoder"),
        generator=sequential((None, latent), generator + spliced, "generator"),
        predictor=sequential((None, width), encoder + generator + spliced + decoder, "predictor"),
    )


def initialize_near_identity(networks: Networks, latents: np.ndarray) -> None:
    """Set untrained LSTM layers so that their output is close to their input.

    The autoencoder keeps most of what it has learned when two layers are spliced in, and the generator
    starts from what its frozen layers know (after Net2Net: Chen, Goodfellow and Shlens 2016,
    arXiv:1511.05641). Input and output gates start open, the forget gate nearly closed. The first layer
    of the decoder compensates the change in scale. The autoencoder of `networks` is trained; `latents`
    ``(M, Z)`` are its encoder's output for the song.
    """
    units = latents.shape[1]
    lstms = [layer for layer in networks.predictor.layers if isinstance(layer, layers.LSTM)]
    for layer in lstms:
        gain = 0.5 if layer is lstms[-2] else 1.0
        kernel, recurrent, bias = (0.1 * weight for weight in layer.get_weights())
        kernel[:, 2 * units : 3 * units] += gain * np.eye(units)  # gates: input, forget, cell, output
        bias[:] = np.repeat([2.0, -1.0, 0.0, 2.0], units)
        layer.set_weights([kernel, recurrent, bias])
    output = networks.spliced_lstm.predict(latents[None], verbose=0)[0]
    slope = (latents * output).sum(axis=0) / np.maximum(np.square(output).sum(axis=0), 1e-12)
    first_decoder_layer = networks.latent_decoder.layers[2]
    kernel, bias = first_decoder_layer.get_weights()
    first_decoder_layer.set_weights([kernel * slope[:, None], bias])
