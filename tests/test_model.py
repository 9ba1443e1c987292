import numpy as np
from helpers import TINY

from joanna import model
from joanna.settings import load


def _kinds(network):
    return [type(layer).__name__ for layer in network.layers]


def test_layers_at_the_defaults():
    networks = model.build(load(["seed"]))
    encoder = ["Dense", "ELU", "Dropout"] * 4
    assert _kinds(networks.autoencoder) == encoder + ["Dense"] * 4
    assert _kinds(networks.spliced) == encoder + ["LSTM"] * 2 + ["Dense"] * 4
    assert _kinds(networks.predictor) == encoder + ["LSTM"] * 4 + ["Dense"] * 4
    dense = [layer for layer in networks.autoencoder.layers if "dense" in layer.name]
    assert [layer.units for layer in dense] == [1798, 1548, 1298, 1048, 1298, 1548, 1798, 2048]
    assert {layer.activation.__name__ for layer in dense} == {"linear"}
    assert {layer.rate for layer in networks.encoder.layers if "dropout" in layer.name} == {0.4}


def test_the_networks_share_their_layers():
    networks = model.build(load(TINY))
    frames = np.random.default_rng(0).normal(size=(1, 5, 64)).astype("float32")
    latents = networks.encoder(frames[0])[None]
    np.testing.assert_allclose(
        networks.spliced(frames), networks.latent_decoder(latents), rtol=1e-4, atol=1e-5
    )


def test_layer_settings_do_something():
    deep = model.build(load([*TINY, "layer-count=3", "dim-decrease=4", "lstm-layers=1"]))
    assert len(deep.autoencoder.layers) == 12
    assert len(deep.generator.layers) == 3
    assert deep.encoder.output_shape == (None, 52)


def test_large_latents_cost():
    networks = model.build(load([*TINY, "dropout=0"]))
    frames = np.random.default_rng(0).normal(size=(6, 64)).astype("float32")
    latents = networks.encoder(frames).numpy()
    networks.autoencoder(frames)
    [cost] = networks.autoencoder.losses
    np.testing.assert_allclose(cost, 1e-5 * np.square(latents).sum(axis=1).mean(), rtol=1e-5)
