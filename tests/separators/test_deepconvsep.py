"""Convolutional networks of mixtures: their sizes, their layers, and what their masks add up to."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gensep.runtime.errors import UserError
from gensep.separators.convolution import convolve, size_after, transposed
from gensep.separators.family import in_training
from gensep.separators.networks import SEPARATORS, make_separator, settings_of
from gensep.separators.stereo_convsep import LSTM

# network -> parameters: by default, and of the published form
COUNTS = {
    "deepconvsep": (578_582, 475_482),
    "deepconvsep_ikala": (69_550_518, 69_550_578),
    "deepconvsep_bach10": (213_997_820, 213_997_880),
    "deepconvsep_scored": (214_000_532, 214_000_592),
    "deepconvsep_ild": (1_116_364, 1_116_464),
    # kernels and biases of 7 layers and 16 output biases; 1,450 second biases
    "deepconvsep_1x1": (3_222_066, 3_223_516),
    "stereo_convsep": (678_536, 678_536),
    # 2,024 are second biases, 4,160 are of no use
    "vocal_denoiser": (2_056_564 - 2_024 - 4_160, 2_056_564),
}


@pytest.fixture(autouse=True, scope="module")
def _quick(hasty):
    """Compile hastily."""


class Case(NamedTuple):
    network: Any
    mixture: np.ndarray
    estimates: np.ndarray
    outputs: np.ndarray | None  # before the masks
    trained: np.ndarray  # estimates in training


@cache
def small(name, *, compat=False):
    """Make a small network of biases that are not 0, and apply it."""
    family = SEPARATORS[name]
    sizes = {key: 6 for key in ("filters", "hidden") if key in family.defaults}
    # some bins are beyond the last step of the kernel; 1x1 needs many
    n_fft = 512 if name.endswith("1x1") else 200
    spectra = {"n_fft": n_fft, "hop_length": n_fft // 4}
    settings = settings_of(name, (), spectra, compat=compat, **sizes)
    planes = len(family.sources) if family.scored else settings["spectra"]["channels"]

    @jax.jit
    def run():
        graph, params, rest = nnx.split(make_separator(settings), nnx.Param, ...)
        keys = iter(jax.random.split(jax.random.key(0), 100))
        params = jax.tree.map(
            lambda x: 0.1 * jax.random.normal(next(keys), x.shape) if x.ndim < 3 else x, params
        )
        network = nnx.merge(graph, params, rest)
        mixture = jax.random.exponential(next(keys), (2, planes, 30, 1 + n_fft // 2))
        outputs = network.outputs(mixture) if name != "vocal_denoiser" else None
        trained = in_training(network, mixture, next(keys))[0]
        return Case(network, mixture, network(mixture), outputs, trained)

    network, *arrays = run()
    return Case(network, *map(np.asarray, arrays))


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(name):
    for compat, expected in zip((False, True), COUNTS[name], strict=True):
        settings = settings_of(name, compat=compat)
        network = jax.eval_shape(lambda settings=settings: make_separator(settings))
        leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
        assert sum(leaf.size for leaf in leaves) == expected


@pytest.mark.parametrize("name", COUNTS)
def test_shapes_and_sums(name):
    case, family = small(name), SEPARATORS[name]
    channels = 1 if family.scored else case.mixture.shape[1]
    shape = (2, len(family.sources), channels, *case.mixture.shape[2:])
    assert case.estimates.shape == shape
    assert case.estimates.min() >= 0
    assert case.estimates.std() > 0
    np.testing.assert_array_equal(case.trained, case.estimates)
    if family.sums:
        whole = case.mixture.sum(1, keepdims=True) if family.scored else case.mixture
        np.testing.assert_allclose(case.estimates.sum(1), whole, rtol=1e-5)
        assert (case.estimates[:, 0] / whole).std() > 1e-4


@pytest.mark.parametrize("name", [name for name in COUNTS if name.startswith("deepconvsep")])
def test_published_form_leaves_out_what_no_output_wants(name):
    """Where all outputs are 0, so are the masks; elsewhere a little noise is below them."""
    case, scored = small(name, compat=True), SEPARATORS[name].scored
    outputs = case.outputs[:, 0, :, None] if scored else case.outputs
    whole = case.mixture.sum(1, keepdims=True) if scored else case.mixture
    below = outputs.sum(1, keepdims=True)
    assert (below == 0).any() or name.endswith("1x1")
    expected = outputs / (below + 0.5e-8) * whole[:, None]
    np.testing.assert_allclose(case.estimates, expected, rtol=2e-3, atol=2e-3)
    low, high = (outputs / (below + noise) * whole[:, None] for noise in (1e-8, 1e-20))
    assert (case.trained >= 0.99 * low - 1e-3).all()
    assert (case.trained <= 1.01 * high + 1e-3).all()


def slow_convolution(x, kernel, stride):
    rows, columns = kernel.shape[:2]
    out = np.zeros(
        (
            len(x),
            size_after(x.shape[1], rows, stride),
            size_after(x.shape[2], columns),
            kernel.shape[3],
        )
    )
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            part = x[:, i * stride : i * stride + rows, j : j + columns]
            out[:, i, j] = np.einsum("brci,rcio->bo", part, kernel)
    return out


CASES = [(11, 1, 11, 1), (11, 1, 1, 4), (13, 3, 4, 1), (12, 4, 5, 1), (14, 2, 5, 3), (9, 1, 3, 2)]


@pytest.mark.parametrize(("bins", "stride", "rows", "columns"), CASES)
def test_convolution_and_its_transpose(bins, stride, rows, columns):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, bins, 7, 3)).astype(np.float32)
    kernel = rng.normal(size=(rows, columns, 3, 4)).astype(np.float32)
    expected = slow_convolution(x, kernel, stride)
    y = rng.normal(size=expected.shape).astype(np.float32)

    @jax.jit
    def run(x, kernel, y):
        def product(x, kernel, y):
            return (convolve(x, kernel, stride) * y).sum()

        def transposed_product(x, kernel, y):
            return (transposed(y, kernel, bins, stride) * x).sum()

        found = convolve(x, kernel, stride), transposed(y, kernel, bins, stride)
        gradients = [jax.grad(f, (0, 1, 2))(x, kernel, y) for f in (product, transposed_product)]
        return found, gradients

    (got, back), gradients = run(x, kernel, y)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert back.shape == x.shape
    np.testing.assert_allclose((expected * y).sum(), (x * np.array(back)).sum(), rtol=1e-4)
    # <convolve(x, k), y> is linear in each of the three
    for for_x, for_kernel, for_y in gradients:
        np.testing.assert_allclose(for_x, back, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(for_y, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose((for_kernel * kernel).sum(), (expected * y).sum(), rtol=1e-3)
    np.testing.assert_allclose(gradients[0][1], gradients[1][1], rtol=1e-3, atol=1e-3)
    probe = np.zeros_like(kernel)
    probe[-1, 0, 1, 2] = 1
    slope = (slow_convolution(x, probe, stride) * y).sum()
    np.testing.assert_allclose(gradients[0][1][-1, 0, 1, 2], slope, rtol=1e-3, atol=1e-4)


def test_a_kernel_that_does_not_fit_is_reported():
    with pytest.raises(UserError, match="5 taps does not fit into 3 bins"):
        make_separator(settings_of("deepconvsep_1x1", (), {"n_fft": 400, "hop_length": 100}))


@pytest.mark.parametrize("compat", [False, True])
def test_layers_of_deepconvsep(compat):
    """The network again in numpy: other takes the decoder of bass in the published form."""
    network, mixture, estimates, found, _ = small("deepconvsep", compat=compat)
    x = 0.3 * mixture.transpose(0, 3, 2, 1)

    def encode(layer, h):
        return slow_convolution(h, np.array(layer.kernel[...]), 1) + sum(
            np.array(bias[...]) for bias in layer.biases
        )

    h = encode(network.conv2, encode(network.conv1, x))
    assert len(network.conv1.biases) == 1 + compat
    form = h.shape[1:]
    h = h.reshape(2, -1) @ np.array(network.enter.kernel[...]) + np.array(network.enter.bias[...])
    h = np.maximum(h, 0)
    outputs = []
    for source, decoder in enumerate((0, 1, 2, 1 if compat else 3)):
        y = (
            h @ np.array(network.leave[...])[:, decoder]
            + np.array(network.leave_bias[...])[decoder]
        )
        y = np.maximum(y, 0).reshape(2, *form)
        spread = np.zeros((2, 30, form[2]))  # frame, channel
        for tap in range(15):
            spread[:, tap : tap + 16] += np.einsum(
                "bto,io->bti", y[:, 0], np.array(network.conv2.kernel[...])[0, tap]
            )
        y = np.einsum("bto,fo->btf", spread, np.array(network.conv1.kernel[...])[:, 0, 0])
        outputs.append(np.maximum(y + np.array(network.output_bias[...])[source, 0], 0))
    outputs = np.stack(outputs, 1)
    np.testing.assert_allclose(found[:, :, 0], outputs, rtol=1e-3, atol=1e-4)
    below = outputs.sum(1, keepdims=True)
    some = below[:, 0] > 1e-3
    shares = outputs / np.maximum(below, 1e-20)
    for source in range(4):
        expected = shares[:, source] * mixture[:, 0]
        np.testing.assert_allclose(
            estimates[:, source, 0][some], expected[some], rtol=0.01, atol=1e-3
        )


def test_score_informed_masks():
    """Each source has one output for every plane; the published form takes those of the first."""
    for compat in (False, True):
        case = small("deepconvsep_scored", compat=compat)
        assert case.outputs.shape == (2, 4, 4, 30, 101)
        wanted = case.outputs[:, 0] if compat else case.outputs.sum(2)
        some = wanted.sum(1) > 1e-3
        shares = wanted / np.maximum(wanted.sum(1, keepdims=True), 1e-20)
        expected = shares * case.mixture.sum(1, keepdims=True)
        for source in range(4):
            got = case.estimates[:, source, 0]
            np.testing.assert_allclose(got[some], expected[:, source][some], rtol=1e-3, atol=1e-3)


def test_decoders_of_1x1_pass_where_the_encoder_was_active():
    """The decoder is the transpose of the encoder's derivative: compare with that of JAX."""
    network, mixture, *_ = small("deepconvsep_1x1")

    def encode(x):
        for layer in network.layers:
            x = jax.nn.relu(layer(x))
        return x

    @jax.jit
    def run(x):
        h, pull = jax.vjp(encode, x)
        parts = jnp.split(jax.nn.relu(network.part(h)), 4, -1)
        return network.decode(x), jnp.stack([pull(part)[0] for part in parts], 1)

    got, expected = run(mixture.transpose(0, 3, 2, 1))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    assert np.array(got).std() > 0


def test_stereo_network_normalises_by_the_ranges_of_the_data():
    network, mixture, *_ = small("stereo_convsep", compat=True)
    rng = np.random.default_rng(0)
    sources = rng.exponential(size=(2, 4, 2, 30, 101)).astype(np.float32)
    measured = network.measured([(mixture[:1], sources[:1]), (mixture[1:], sources[1:])])
    np.testing.assert_allclose(measured.mixture.greatest[...], mixture.max((0, 2)))
    np.testing.assert_allclose(measured.targets.least[...], sources.min((0, 3)))
    assert not np.array(network.mixture.least[...]).any()  # another network
    low, high = mixture.min((0, 2))[None, :, None], mixture.max((0, 2))[None, :, None]
    normal = (mixture - low) / (high - low)
    outputs, estimates = jax.jit(lambda m, x, y: (m.outputs(x), m(y)))(measured, normal, mixture)
    # shares of the normalised mixture, in the range of each target
    outputs = np.array(outputs) + 1e-11
    shares = outputs / outputs.sum(1, keepdims=True) * normal[:, None]
    low, high = sources.min((0, 3))[None, ..., None, :], sources.max((0, 3))[None, ..., None, :]
    np.testing.assert_allclose(estimates, shares * (high - low) + low, rtol=1e-3, atol=1e-3)
    # no part of it is trained
    trained = jax.tree.leaves(nnx.state(network, nnx.Param))
    assert (
        sum(x.size for x in jax.tree.leaves(network)) == sum(x.size for x in trained) + 2 * 10 * 101
    )


def test_recurrent_layer():
    layer = jax.jit(lambda: LSTM(3, 2, 2, rngs=nnx.Rngs(0)))()
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    weights, over, bias = (
        np.array(layer.from_input[...]),
        np.array(layer.from_state[...]),
        sum(np.array(b[...]) for b in layer.biases),
    )
    h, cell, expected = np.zeros((2, 2)), np.zeros((2, 2)), []
    for frame in x.swapaxes(0, 1):
        gates = frame @ weights + h @ over + bias
        i, f, g, o = np.split(gates, 4, -1)
        i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
        cell = f * cell + i * np.tanh(g)
        h = o * np.tanh(cell)
        expected.append(h)
    np.testing.assert_allclose(
        jax.jit(lambda m, x: m(x))(layer, x), np.stack(expected, 1), rtol=1e-4, atol=1e-5
    )
