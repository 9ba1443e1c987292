import numpy as np
import pytest
from helpers import resource_handles

from joanna import fast
from joanna.backend import keras


def _network(lstm):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((None, 12)),
            lstm(9, return_sequences=True),
            lstm(8, return_sequences=True),
            keras.layers.Dense(12),
        ]
    )


def _trained(lstm, adam):
    network = _network(lstm)
    network.compile(optimizer=adam(0.01), loss="mse")
    frames = np.random.default_rng(0).normal(size=(5, 7, 12)).astype("float32")
    losses = [float(network.train_on_batch(frames, frames)) for _ in range(20)]
    return network, frames, losses


@pytest.fixture(scope="module")
def trained():
    return _trained(fast.LSTM, fast.Adam)


def test_training_equals_the_stock_layer_and_optimizer(trained):
    stock, _, stock_losses = _trained(keras.layers.LSTM, keras.optimizers.Adam)
    ours, _, losses = trained
    # sums in another order round differently, by about 1e-7 a step
    np.testing.assert_allclose(losses, stock_losses, atol=1e-5)
    assert losses[-1] < 0.95 * losses[0]
    for mine, theirs in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_weights_move_freely_to_the_stock_layer(tmp_path, trained):
    (ours, frames, _), stock = trained, _network(keras.layers.LSTM)
    ours.save_weights(tmp_path / "ours.weights.h5")
    stock.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_allclose(stock.predict(frames, verbose=0), ours.predict(frames, verbose=0), atol=1e-6)


def test_any_batch_and_length(trained):
    ours, _, _ = trained
    for shape in ((1, 1, 12), (3, 20, 12)):
        assert ours.predict(np.ones(shape, "float32"), verbose=0).shape == shape


def test_the_memory_of_a_trained_network_is_released():
    def train():
        network = keras.Sequential([keras.Input((3, 4)), fast.LSTM(4, return_sequences=True)])
        network.compile(optimizer=fast.Adam(), loss="mse")
        network.train_on_batch(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)))

    with fast.released_custom_gradients():  # objects that Keras creates once
        train()
    before = resource_handles()
    with fast.released_custom_gradients():
        train()
    assert resource_handles() == before
    train()
    assert resource_handles() > before  # so the context is needed
