"""Open-Unmix: published sizes, the LSTM against a plain loop, and agreement with PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gensep.separators.family import in_training
from gensep.separators.lstm import Lstm
from gensep.separators.networks import make_separator, settings_of
from gensep.separators.open_unmix import OpenUnmix, OpenUnmix2019, Statistic, with_statistics

pytestmark = pytest.mark.usefixtures("hasty")

apply = jax.jit(lambda network, mixture: network(mixture))
train = jax.jit(in_training)

UMXSE = {"sample_rate": 16000, "channels": 1, "n_fft": 1024, "hop_length": 512}
SIZES = {
    "umx": ("umx", {}, {}, 8_893_348),
    "umxl": ("umx", {}, {"width": 1024}, 28_257_188),
    "umxse": ("umx", UMXSE, {"width": 256}, 1_583_622),
    "2019, 15 kHz": ("umx_2019", {}, {"compat": True}, 6_759_426),
    "2019, 16 kHz": ("umx_2019", {}, {"compat": True, "bandwidth": 16000}, 6_807_042),
    "2019, all bins below 15 kHz": ("umx_2019", {}, {}, 6_759_426 + 512),
}


@pytest.mark.parametrize("name", SIZES)
def test_published_numbers_of_parameters(name):
    network, spectra, options, count = SIZES[name]
    for sources in (["vocals"], ["vocals", "drums", "bass", "other"]):
        settings = settings_of(network, sources, spectra, **options)
        shapes = nnx.eval_shape(lambda settings=settings: make_separator(settings))
        kept = nnx.state(shapes, nnx.Any(nnx.Param, Statistic))
        assert sum(leaf.size for leaf in jax.tree.leaves(kept)) == count * len(sources)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_lstm(layer, network, direction, x):
    """Return the outputs `[frame, batch, hidden]` of one direction of one layer, frame by frame."""
    weights = layer.input_kernel, layer.hidden_kernel, layer.input_bias, layer.hidden_bias
    enter, recur, *biases = (np.asarray(w[...], np.float64)[network, direction] for w in weights)
    hidden = cell = np.zeros((x.shape[1], layer.hidden))
    out, size = np.zeros((*x.shape[:2], layer.hidden)), layer.hidden
    for t in range(len(x))[:: -1 if direction else 1]:
        gates = x[t] @ enter + hidden @ recur + biases[0] + biases[1]
        i, f, g, o = (gates[:, k * size : (k + 1) * size] for k in range(4))
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = out[t] = sigmoid(o) * np.tanh(cell)
    return out


@pytest.mark.parametrize("directions", [1, 2])
def test_lstm_is_a_plain_loop(directions):
    lstm = jax.jit(lambda: Lstm(2, 5, 3, 2, directions=directions, rngs=nnx.Rngs(0)))()
    x = np.random.default_rng(0).normal(size=(2, 11, 4, 5)).astype(np.float32)
    out = jax.jit(lambda lstm, x: lstm(x)[0])(lstm, jnp.asarray(x))
    for network in range(2):
        expected = x[network]
        for layer in lstm.layers:
            ways = [plain_lstm(layer, network, way, expected) for way in range(directions)]
            expected = np.concatenate(ways, -1)
        np.testing.assert_allclose(out[network], expected, atol=1e-6)


@pytest.fixture(scope="module")
def small():
    return jax.jit(lambda: OpenUnmix(2, 2, 9, 6, 8, 2, rngs=nnx.Rngs(0)))()


def magnitudes(*shape):
    return jnp.asarray(np.random.default_rng(1).uniform(size=shape), jnp.float32)


def test_one_direction_continues_where_it_stopped():
    make = lambda: OpenUnmix(2, 1, 9, 6, 8, 2, unidirectional=True, rngs=nnx.Rngs(0))  # noqa: E731
    network, mixture = jax.jit(make)(), magnitudes(3, 1, 20, 9)
    stream = jax.jit(lambda network, mixture, states: network.stream(mixture, states))
    first, states = stream(network, mixture[:, :, :7], None)
    second, _ = stream(network, mixture[:, :, 7:], states)
    parts = np.concatenate([first, second], 3)
    np.testing.assert_allclose(parts, apply(network, mixture), rtol=1e-5)


def test_statistics_of_the_data_standardise_the_input(small):
    deviations = jnp.ones(9).at[2].set(0.0)
    network = with_statistics(small, jnp.arange(9.0), deviations)
    np.testing.assert_array_equal(network.input_mean[...], np.tile(-np.arange(6.0), (2, 1)))
    expected = np.array([1, 1, 1e4, 1, 1, 1])  # the silent bin is floored
    np.testing.assert_allclose(network.input_scale[...], np.tile(expected, (2, 1)), rtol=1e-6)
    mixture = magnitudes(1, 2, 5, 9)
    standard = mixture.at[..., :6].set((mixture[..., :6] - network_row(0)) * network_row(1))
    masks = apply(network, mixture) / mixture[:, None]
    np.testing.assert_allclose(masks, apply(small, standard) / standard[:, None], rtol=2e-4)


def network_row(which):
    mean, scale = np.arange(6.0), np.array([1, 1, 1e4, 1, 1, 1])
    return (mean, scale)[which][None, None, None]


def test_training_moves_statistics_and_drops(small):
    mixture = magnitudes(3, 2, 10, 9)
    before = jax.tree.map(np.asarray, nnx.state(small, nnx.BatchStat))
    estimates, moved = train(small, mixture, jax.random.key(0))
    after = nnx.state(small, nnx.BatchStat)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, after))
    other, _ = train(small, mixture, jax.random.key(1))
    assert np.abs(np.asarray(estimates - other)).max() > 1e-3

    x = np.transpose(np.asarray(mixture)[..., :6], (2, 0, 1, 3)).reshape(30, 12)
    features = np.einsum("fi,sio->sfo", x, np.asarray(small.encoder.kernel[...]))
    mean, variance = features.mean(1), features.var(1, ddof=1)
    norm = moved.encoder_norm
    np.testing.assert_allclose(norm.mean[...], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(norm.variance[...], 0.9 + 0.1 * variance, rtol=1e-5)


def test_batch_norm_in_training_normalises_the_batch(small):
    x = 3 + 2 * magnitudes(2, 10, 3, 8)
    out = np.asarray(nnx.clone(small).encoder_norm(x, training=True))
    np.testing.assert_allclose(out.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.var((1, 2)), 1, atol=1e-3)


def test_gradients_reach_every_trained_weight(small):
    mixture = magnitudes(3, 2, 10, 9)

    @jax.jit
    @jax.grad
    def slopes(network):
        estimates, _ = in_training(network, mixture, jax.random.key(0))
        return ((estimates - 0.3 * mixture[:, None]) ** 2).mean()

    for path, leaf in nnx.to_flat_state(nnx.state(slopes(small), nnx.Param)):
        assert np.abs(np.asarray(leaf[...])).max() > 0, path


def test_form_of_2019_normalises_each_recording_by_itself():
    network = jax.jit(lambda: OpenUnmix2019(2, 1, 9, 6, 8, 2, rngs=nnx.Rngs(0)))()
    stereo = magnitudes(2, 2, 12, 9)
    out = apply(network, stereo)
    assert out.shape == (2, 2, 1, 12, 9)
    changed = apply(network, stereo.at[1].add(1.0))
    np.testing.assert_allclose(out[0], changed[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, apply(network, 5 * stereo), rtol=1e-2, atol=1e-4)
    mono = jnp.sqrt((stereo**2).sum(1, keepdims=True))
    np.testing.assert_array_equal(out, apply(network, mono))


def test_statistics_of_the_data():
    rng = np.random.default_rng(0)
    mixtures = rng.uniform(size=(3, 2, 1, 5, 9)).astype(np.float32)
    sources = rng.uniform(size=(3, 2, 2, 1, 5, 9)).astype(np.float32)
    examples = list(zip(mixtures, sources, strict=True))
    make = {"channels": 1, "bins": 9, "seen": 7, "width": 4, "layers": 1}
    network = OpenUnmix(2, **make, rngs=nnx.Rngs(0)).measured(examples)
    frames = mixtures.reshape(-1, 9)[:, :7]
    np.testing.assert_allclose(network.input_mean[...], -frames.mean(0)[None].repeat(2, 0), 1e-5)
    np.testing.assert_allclose(1 / network.input_scale[...][1], frames.std(0), rtol=1e-4)
    older = OpenUnmix2019(2, **make, rngs=nnx.Rngs(0)).measured(examples)
    np.testing.assert_allclose(older.output_mean[...], sources.mean((0, 1, 3, 4)), rtol=1e-5)
