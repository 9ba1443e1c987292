"""The networks: the only code that builds layers.

Widths at the defaults: frame 2048 -> 1798 -> 1548 -> 1298 -> 1048 -> 1298 -> 1548 -> 1798 -> 2048.
"""

import numpy as np

from joanna import fast
from joanna.backend import keras
from joanna.settings import bottleneck

layers = keras.layers

# Without it the latents grow to a deviation near 10, ten times what an LSTM puts out.
_LATENT_PENALTY = 1e-5


def encoder_layers(settings: dict) -> list[layers.Layer]:
    """(Dense, ELU, Dropout) x layer-count, each step dim-decrease narrower than its input."""
    result = []
    for step in range(1, settings["layer-count"] + 1):
        units = settings["frame-length"] - step * settings["dim-decrease"]
        penalty = keras.regularizers.L2(_LATENT_PENALTY) if step == settings["layer-count"] else None
        result += [
            layers.Dense(units, name=f"encoder-dense-{step}"),
            layers.ELU(name=f"encoder-elu-{step}", activity_regularizer=penalty),
            layers.Dropout(
                settings["dropout"], seed=settings["random-seed"] + step, name=f"encoder-dropout-{step}"
            ),
        ]
    return result


def decoder_layers(settings: dict) -> list[layers.Layer]:
    """layer-count linear Dense layers back up to the frame's width."""
    start, step_up = bottleneck(settings), settings["dim-decrease"]
    return [
        layers.Dense(start + step * step_up, name=f"decoder-dense-{step}")
        for step in range(1, settings["layer-count"] + 1)
    ]


def lstm_layers(settings: dict, count: int, name: str) -> list[layers.Layer]:
    """`count` LSTM layers as wide as the bottleneck; all sequences are returned.

    `let_through` shrinks their first weights, so Keras's orthogonal ones, which take seconds a
    network to make, would be wasted.
    """
    return [
        fast.LSTM(
            bottleneck(settings),
            return_sequences=True,
            recurrent_initializer="glorot_uniform",
            name=f"{name}-lstm-{step}",
        )
        for step in range(1, count + 1)
    ]


def let_through(networks: dict[str, keras.Sequential], latents: np.ndarray) -> None:
    """Set LSTM layers that are yet to be trained to pass on nearly what they are given.

    The autoencoder keeps most of what it has learned when two are spliced in, and the generator
    starts from what its frozen layers know (the idea of Chen, Goodfellow and Shlens 2016, Net2Net,
    arXiv:1511.05641). Input and output gates start open, the forget gate nearly closed; the
    decoder's first layer takes up the change in scale.

    Args:
        networks: of `build`, holding the trained autoencoder.
        latents: ``(M, Z)`` float32, the encoder's output over the song.
    """
    units = latents.shape[1]
    lstms = [layer for layer in networks["network"].layers if isinstance(layer, layers.LSTM)]
    for layer in lstms:
        gain = 0.5 if layer is lstms[-2] else 1.0
        kernel, recurrent, bias = (0.1 * weight for weight in layer.get_weights())
        kernel[:, 2 * units : 3 * units] += gain * np.eye(units)  # gates: input, forget, cell, output
        bias[:] = np.repeat([2.0, -1.0, 0.0, 2.0], units)
        layer.set_weights([kernel, recurrent, bias])
    put_out = networks["spliced-lstm"].predict(latents[None], verbose=0)[0]
    slope = (latents * put_out).sum(axis=0) / np.maximum(np.square(put_out).sum(axis=0), 1e-12)
    first = networks["spliced-tail"].layers[2]
    kernel, bias = first.get_weights()
    first.set_weights([kernel * slope[:, None], bias])


def chain(shape: tuple, parts: list[layers.Layer], name: str) -> keras.Sequential:
    """A model of `parts` one after the other on inputs of `shape` (batch left out)."""
    return keras.Sequential([keras.Input(shape), *parts], name=name)


def build(settings: dict) -> dict[str, keras.Sequential]:
    """All networks of one component; they share their layers.

    Returns:
        autoencoder: frames ``(N, F)`` -> ``(N, F)``, 4 x layer-count layers (16).
        encoder: frames ``(N, F)`` -> latents ``(N, Z)``.
        decoder: latents ``(N, Z)`` -> frames ``(N, F)``.
        spliced: frames ``(N, T, F)`` -> ``(N, T, F)``, the autoencoder with two LSTM layers (18).
        spliced-lstm: latents ``(N, T, Z)`` -> the LSTM layers' output ``(N, T, Z)``.
        spliced-tail: latents ``(N, T, Z)`` -> frames ``(N, T, F)``, LSTM layers and decoder.
        generator: latents ``(N, T, Z)`` -> ``(N, T, Z)``, new LSTM layers, then the spliced ones.
        network: frames ``(N, T, F)`` -> the next frames ``(N, T, F)``; holds every weight.
    """
    keras.utils.set_random_seed(settings["random-seed"])
    width, latent = settings["frame-length"], bottleneck(settings)
    encoder, decoder = encoder_layers(settings), decoder_layers(settings)
    spliced = lstm_layers(settings, 2, "spliced")
    new = lstm_layers(settings, settings["lstm-layers"], "new")
    return {
        "autoencoder": chain((width,), encoder + decoder, "autoencoder"),
        "encoder": chain((width,), encoder, "encoder"),
        "decoder": chain((latent,), decoder, "decoder"),
        "spliced": chain((None, width), encoder + spliced + decoder, "spliced"),
        "spliced-lstm": chain((None, latent), spliced, "spliced-lstm"),
        "spliced-tail": chain((None, latent), spliced + decoder, "spliced-tail"),
        "generator": chain((None, latent), new + spliced, "generator"),
        "network": chain((None, width), encoder + new + spliced + decoder, "network"),
    }
