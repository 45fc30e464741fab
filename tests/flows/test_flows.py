"""Flows: exact inverses and determinants, initialisation, published sizes, a density of mass 1."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from basis import Linear, Prior, Problem, check, mala, mmps, sample
from basis.gmm import GaussianMixture
from flows import (
    ActNorm,
    Affine,
    Chain,
    Density,
    FlowPrior,
    HalfCoupling,
    InvertibleConv,
    Level,
    LogisticMixture,
    Logit,
    MaskedCoupling,
    Repeat,
    SigmaEmbedding,
    SplitPrior,
    Squeeze,
    StackedFlowPrior,
    VariationalDequantiser,
    bits_per_dim,
    flowpp,
    glow,
    initialize,
    learning_rates,
    negative_log_likelihood,
    realnvp,
    uniform,
)
from flows.attention import AttentionNet
from flows.couplings import CHANNEL, CHECKERBOARD
from flows.density import calm
from flows.networks import Conv, ConvNet, ResNet

E = 3  # size of conditions
C = 4
pytestmark = pytest.mark.usefixtures("hasty")


def half(transform, embedding, rngs):
    net = ConvNet(C // 2, C // 2 * transform.parameters, 6, (3, 3), embedding, rngs=rngs)
    return HalfCoupling(C, transform, net)


def masked(kind, transform, parity, embedding, rngs):
    outside = C * transform.parameters
    net = (
        ResNet(C, outside, 5, 1, (3, 3), embedding, rngs=rngs)
        if kind == CHECKERBOARD
        else AttentionNet(C, outside, 4, 1, 2, (3, 3), embedding, rngs=rngs)
    )
    return MaskedCoupling(kind, transform, net, parity)


def split(embedding, rngs):
    return Level(
        Squeeze(),
        InvertibleConv(4 * C, rngs=rngs),
        SplitPrior(2 * C, 2 * C, (3, 3), embedding, rngs=rngs),
        InvertibleConv(2 * C, rngs=rngs),
    )


# name -> (embedding, nnx.Rngs) -> bijection of [4, 4, C], glow of [4, 4, 2]
CONDITIONED = {
    "actnorm": lambda e, r: ActNorm(C, e, rngs=r),
    "half affine": partial(half, Affine()),
    "channel mixture": partial(masked, CHANNEL, LogisticMixture(3), 0),
    "checkerboard affine": partial(masked, CHECKERBOARD, Affine(), 1),
    "split": split,
    "glow": lambda e, r: glow((4, 4, 2), 2, 2, 6, embedding=e, rngs=r),
}
PLAIN = {
    "actnorm": CONDITIONED["actnorm"],
    "squeeze": lambda e, r: Squeeze((2, 1)),
    "1x1": lambda e, r: InvertibleConv(C, rngs=r),
    "logit": lambda e, r: Logit(0.05),
    "half mixture": partial(half, LogisticMixture(3)),
    "free glow": lambda e, r: glow((4, 4, C), 1, 2, 6, prior="free", rngs=r),
    "bands glow": lambda e, r: glow((4, 1, C), 1, 2, 6, kernel=(3, 1), squeeze=(2, 1), rngs=r),
}
COMPOSED = {
    "realnvp": lambda r: realnvp((4, 4, 1), 2, 1, 5, embedding=E, rngs=r),
    "free realnvp": lambda r: realnvp((4, 4, 1), 1, 1, 5, prior="free", embedding=E, rngs=r),
    "flowpp": lambda r: flowpp((4, 4, 1), 4, 1, 2, heads=2, embedding=E, rngs=r),
}


def shaken(module, size=0.2, seed=0):
    """Move every parameter, so that nothing is zero or the identity."""
    rng = np.random.default_rng(seed)
    state = nnx.state(module, nnx.Param)
    moved = jax.tree.map(lambda x: x + np.asarray(size * rng.normal(size=x.shape), x.dtype), state)
    nnx.update(module, moved)
    return module


def built(make, size=0.0):
    """Return `make()`, shaken, as one program: op by op, each draw would be compiled by itself."""
    return jax.jit(lambda: shaken(make(), size) if size else make())()


def normal(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@jax.jit
def there_and_back(flow, x, condition):
    """Return z, both determinants, the way back, and the Jacobian of the first example."""
    z, logdet = flow.forward(x, condition)
    back, backwards = flow.inverse(z, condition)
    first = None if condition is None else condition[:1]

    def one(flat):
        return flow.forward(flat.reshape(1, *x.shape[1:]), first)[0].ravel()

    return z, logdet, back, backwards, jax.jacfwd(one)(x[0].ravel())


@pytest.mark.parametrize(
    ("name", "embedding"), [(n, E) for n in CONDITIONED] + [(n, 0) for n in PLAIN]
)
def test_bijections_are_exact(name, embedding):
    """The inverse undoes the map, and the determinant is that of the Jacobian."""
    # triangles of many random numbers have inverses that no float32 can hold
    size = 0.2 if name in ("actnorm", "half affine", "half mixture") else 0.05
    table = CONDITIONED if embedding else PLAIN
    flow = built(lambda: table[name](embedding, nnx.Rngs(1)), size)
    x = normal(2, 4, 1 if name == "bands glow" else 4, 2 if name == "glow" else C)
    if name == "logit":
        x = 1 / (1 + np.exp(-x))
    condition = normal(2, embedding, seed=5) if embedding else None
    z, logdet, back, backwards, jacobian = there_and_back(flow, x, condition)
    assert logdet.shape == backwards.shape == (2,)
    np.testing.assert_allclose(back, x, atol=1e-4)
    np.testing.assert_allclose(backwards, -logdet, atol=1e-3)
    _, expected = np.linalg.slogdet(np.asarray(jacobian, np.float64))
    assert float(logdet[0]) == pytest.approx(expected, abs=1e-3)
    if name != "squeeze":
        assert np.abs(z.ravel() - x.ravel()).max() > 0.05
        assert abs(expected) > 0.01
    if embedding:
        assert np.abs(there_and_back(flow, x, condition + 3)[0] - z).max() > 0.01


@pytest.mark.parametrize("name", COMPOSED)
def test_compositions_are_invertible(name):
    """They consist of the layers tested above."""
    flow = built(lambda: COMPOSED[name](nnx.Rngs(1)), 0.05)
    x, condition = normal(2, 4, 4, 1), normal(2, E)

    @jax.jit
    def run(flow):
        z, logdet = flow.forward(x, condition)
        return logdet, *flow.inverse(z, condition)

    logdet, back, backwards = run(flow)
    np.testing.assert_allclose(back, x, atol=1e-4)
    np.testing.assert_allclose(backwards, -logdet, atol=1e-3)
    assert np.abs(logdet).min() > 0.01


def test_mixtures_of_logistics_are_inverted_far_out_and_differentiably():
    transform, rng = LogisticMixture(4), np.random.default_rng(0)
    raw = (3 * rng.normal(size=(400, transform.parameters))).astype(np.float32)
    x = np.linspace(-30, 30, 400, dtype=np.float32)

    @jax.jit
    def run(x, raw):
        y, slope = transform.forward(x, raw)
        back, backwards = transform.inverse(y, raw)
        by_y = jax.grad(lambda y: transform.inverse(y, raw)[0].sum())(y)
        return y, slope, back, backwards, by_y

    y, slope, back, backwards, by_y = run(x, raw)
    assert np.isfinite(y).all()
    # values that coincide in y in float32 cannot be distinguished in x
    room = 1e-4 + 4e-7 * np.abs(y) * np.exp(-np.asarray(slope))
    assert (np.abs(back - x) < room).all()
    np.testing.assert_allclose(backwards, -slope, atol=5e-3)
    np.testing.assert_allclose(by_y, np.exp(-slope), rtol=5e-3)


def test_convolutions_are_convolutions():
    x = normal(2, 5, 6, 3)
    layers = built(
        lambda: [
            shaken(Conv(3, outside, kernel, rngs=nnx.Rngs(0)))
            for kernel, outside in (((3, 3), 7), ((3, 1), 2), ((1, 1), 2))
        ]
    )

    @jax.jit
    def both(layers):
        def expected(layer):
            return layer.bias[...][None, None, None] + jax.lax.conv_general_dilated(
                x, layer.kernel[...], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        return [(layer(x), expected(layer)) for layer in layers]

    for got, right in both(layers):
        np.testing.assert_allclose(got, right, atol=1e-5)


# ---- the start


def actnorms(module, x, condition, found):
    """Collect the output of every ActNorm of a flow, in the order in which x passes them."""
    if isinstance(module, Chain):
        for part in module.parts:
            x = actnorms(part, x, condition, found)
        return x
    if isinstance(module, Repeat):
        count = len(jax.tree.leaves(module.steps)[0])
        for i in range(count):
            x = actnorms(jax.tree.map(lambda leaf, i=i: leaf[i], module.steps), x, condition, found)
        return x
    if isinstance(module, Level):
        y = actnorms(module.steps, module.squeeze.forward(x)[0], condition, found)
        if module.deeper is not None:
            actnorms(module.deeper, y[..., y.shape[-1] // 2 :], condition, found)
        return None
    if isinstance(module, ActNorm):
        found.append(module(x, condition))
        return found[-1]
    if isinstance(module, HalfCoupling):
        net, given = module.net, jnp.split(x, 2, -1)[1]
        found.append(net.norm1(net.enter(given), condition))
        found.append(net.norm2(net.middle(jax.nn.silu(found[-1])), condition))
    if isinstance(module, MaskedCoupling):
        net, h = module.net, module.mask(x) * x
        h = net.enter(h) if isinstance(net, ResNet) else net._enter(h)
        for block in net.blocks:
            found.append(block.norm1(h, condition))
            h = block(h, condition)
        found.append(net.norm(h, condition))
    return module.forward(x, condition)[0]


def uneven(*shape):
    """Return data far from standard: offsets, scales and correlations."""
    x = normal(*shape)
    return 0.1 * (x + 2 * x[:, :, ::-1]) * np.arange(1, shape[2] + 1)[:, None] + 3


def attentive():
    net = AttentionNet(2, 2 * Affine().parameters, 4, 1, 2, (3, 3), E, rngs=nnx.Rngs(0))
    return Chain(ActNorm(2, E, rngs=nnx.Rngs(0)), MaskedCoupling(CHECKERBOARD, Affine(), net, 0))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: glow((8, 4, 2), 2, 2, 8, embedding=E, rngs=nnx.Rngs(0)), 2 * 2 * 3 + 1),
        (lambda: realnvp((8, 4, 2), 1, 2, 8, embedding=E, rngs=nnx.Rngs(0)), 4 * 4 + 1),
        (attentive, 3),
    ],
    ids=["glow", "realnvp", "attention"],
)
def test_at_the_start_every_actnorm_gives_mean_0_and_sd_1(make, count):
    x, condition = uneven(32, 8, 4, 2), normal(32, E)

    @jax.jit
    def run(flow):
        flow, found = initialize(flow, x, condition), []
        actnorms(flow, x, condition, found)
        return found, flow.forward(x, condition)[0]

    found, z = run(built(make))
    assert len(found) == count
    for i, y in enumerate(found):
        np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=2e-3, err_msg=str(i))
        np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=2e-3, err_msg=str(i))
    assert float(z.std()) == pytest.approx(1, abs=0.05)  # all couplings start as the identity


def start_as_the_ancestor(flow, x):
    """Set ActNorms from the raw batch, reshaped for each level, and in the wrong order."""

    def visit(level, x):
        y = level.squeeze.forward(x)[0]
        steps = level.steps.parts[0] if isinstance(level.steps, Chain) else level.steps
        norm = steps.steps.parts[0]
        sd, mean = y.std((0, 1, 2)), y.mean((0, 1, 2))
        norm.bias[...] = jnp.broadcast_to(-mean, norm.bias.shape)
        norm.log_scale[...] = jnp.broadcast_to(-jnp.log(sd + 1e-6), norm.log_scale.shape)
        if level.deeper is not None:
            visit(level.deeper, y[..., : y.shape[-1] // 2])

    visit(flow, x)
    return flow


def test_a_wrong_start_diverges_and_ours_does_not():
    """AudioSourceSep sets levels from the wrong inputs, which leads to spikes of 1e24."""
    x = 0.05 * normal(16, 8, 8, 1)

    def make():
        return glow((8, 8, 1), 2, 12, 4, rngs=nnx.Rngs(0))

    @jax.jit
    def nll(flow):
        z, logdet = flow.forward(x)
        return ((z**2).sum() / 2 - logdet.sum()) / x.size

    ours = float(nll(jax.jit(lambda: initialize(make(), x))()))
    theirs = float(nll(jax.jit(lambda: start_as_the_ancestor(make(), x))()))
    assert abs(ours) < 10
    assert not theirs < 1e12


def test_rates_that_fit_keep_wide_and_deep_flows_from_diverging():
    """Forty 1x1 convolutions of 64 channels under Adam, on data that they fit from the start."""

    def make():
        return Repeat(lambda key: InvertibleConv(64, rngs=nnx.Rngs(key)), jax.random.key(0), 40)

    @jax.jit
    def worst(factors):
        optimiser = optax.adam(1e-3)

        def update(carry, i):
            flow, state = carry
            x = jax.random.normal(jax.random.key(i), (16, 1, 1, 64))

            def loss(flow):
                z, logdet = flow.forward(x)
                return ((z**2).sum() / 2 - logdet.sum()) / x.size

            value, gradient = jax.value_and_grad(loss)(flow)
            change, state = optimiser.update(gradient, state)
            change = jax.tree.map(jnp.multiply, change, factors)
            return (optax.apply_updates(flow, change), state), value

        flow = make()
        return jax.lax.scan(update, (flow, optimiser.init(flow)), jnp.arange(60))[1].max()

    factors = learning_rates(jax.eval_shape(make))
    assert float(factors.steps.packed[...]) == pytest.approx(1 / 8)
    calm, wild = float(worst(factors)), float(worst(jax.tree.map(jnp.ones_like, factors)))
    assert calm < 0.8  # that of the data is 0.5
    assert not wild < 1.5
    net = learning_rates(ConvNet(24, 4, 128, (3, 1), rngs=nnx.Rngs(0)))
    assert [float(c.kernel[...]) for c in (net.enter, net.middle, net.leave)] == pytest.approx(
        [64 / 72, 64 / 128, 64 / 384]
    )


# ---- published sizes


def parameters(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


@pytest.mark.parametrize(
    ("levels", "steps", "published"),
    [(3, 32, 31_691_264), (3, 40, 39_611_008), (3, 48, 47_530_752), (4, 48, 70_982_400)],
)
def test_published_sizes(levels, steps, published):
    """Of 96x64 windows, width 512, with a mean and sd for every latent.

    The published count holds full matrices L and U, of which C^2 + C numbers are not used.
    """
    made = jax.eval_shape(
        lambda: glow((96, 64, 1), levels, steps, 512, prior="free", rngs=nnx.Rngs(0))
    )
    channels = [2 ** (level + 2) for level in range(levels)]
    assert parameters(made) == published - steps * sum(c * c + c for c in channels)
    if (levels, steps) == (3, 40):
        assert parameters(made) == 39_596_448  # the triangles alone


# ---- densities in two dimensions

SIGMAS = (2.0, 0.1)
UPDATES = 800


def truth(rows=((-1.2, 0.8), (1.0, 1.0), (0.2, -1.2))):
    variances = jnp.array([[0.3, 0.02], [0.02, 0.2], [0.1, 0.05]])
    turn = jnp.array([[0.8, -0.6], [0.6, 0.8]])
    return GaussianMixture(
        jnp.array([0.3, 0.3, 0.4]),
        jnp.asarray(rows),
        variances,
        jnp.stack([turn, jnp.eye(2), turn.T]),
        jnp.asarray(SIGMAS),
    )


@cache
def trained():
    """Return one sigma-conditioned flow fitted to samples of `truth`, and its training losses."""
    data = truth()

    def make():
        rngs = nnx.Rngs(0)
        flow = glow((1, 1, 2), 1, 6, 24, kernel=(1, 1), squeeze=(1, 1), embedding=16, rngs=rngs)
        return Density(
            flow, jnp.zeros(2), jnp.asarray(1.0), "bands", SigmaEmbedding(16, 0.02, rngs=rngs)
        )

    def draw(key):
        keys = jax.random.split(key, 3)
        sigma = 0.05 * 60 ** jax.random.uniform(keys[2], (256,))
        return data.sample(keys[0], 256), jax.random.normal(keys[1], (256, 2)), sigma

    optimiser = optax.adam(optax.cosine_decay_schedule(6e-3, UPDATES))

    @jax.jit
    def fit():
        x, noise, sigma = draw(jax.random.key(1))
        model = make().initialize(x + sigma[:, None] * noise, sigma)

        def update(carry, i):
            model, state = carry

            def loss(m):
                return negative_log_likelihood(m, *draw(jax.random.key(i)))[0].mean()

            value, gradient = jax.value_and_grad(loss)(model)
            change, state = optimiser.update(gradient, state)
            return (optax.apply_updates(model, change), state), value

        (model, _), losses = jax.lax.scan(
            update, (model, optimiser.init(model)), jnp.arange(UPDATES)
        )
        return model, losses

    return fit()


def flow_prior():
    return FlowPrior(trained()[0], jnp.asarray(SIGMAS), jnp.array([[0.9, 0.9], [0.1, 0.1]]))


def test_a_trained_density_has_mass_1_and_is_the_true_one():
    prior, exact = flow_prior(), truth()
    side = np.linspace(-8, 8, 401, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    log_prob = jax.jit(lambda p, x, s: p.log_prob(x, s))
    for sigma in (0.1, 0.5, 2.0):
        ours, true = log_prob(prior, grid, sigma), exact.log_prob(grid, sigma)
        cell = (16 / 400) ** 2
        assert float(jnp.exp(ours).sum() * cell) == pytest.approx(1, abs=0.01)
        divergence = float((jnp.exp(true) * (true - ours)).sum() * cell)
        assert 0 <= divergence < 0.06, sigma
    assert np.isfinite(trained()[1]).all()


def test_flow_scores_are_gradients_and_flows_are_priors():
    prior = flow_prior()
    assert isinstance(prior, Prior)
    x = 0.8 * normal(6, 2)
    score = jax.jit(lambda p, x, s: p.score(x, s))(prior, x, 0.5)
    log_prob = jax.jit(lambda p, x, s: p.log_prob(x, s))
    for axis in range(2):
        step = np.zeros(2, np.float32)
        step[axis] = 0.01
        slope = (log_prob(prior, x + step, 0.5) - log_prob(prior, x - step, 0.5)) / 0.02
        np.testing.assert_allclose(score[:, axis], slope, atol=0.02)
    np.testing.assert_allclose(prior.spread(jnp.sqrt(2.0 * 0.1)), [0.3, 0.3], rtol=1e-4)


def test_far_from_all_data_flows_stay_near_their_range():
    """Far from the data the denoiser is bounded, so that samplers return to the data."""
    model = trained()[0]
    run = jax.jit(lambda m, x, s: m.denoise(x, s))
    x = 30 * normal(64, 2)
    free = np.asarray(run(model, x, 0.1))
    assert np.abs(free).max() > 10  # without bounds
    held = Density(
        model.flow, model.mean[...], model.sd[...], "bands", model.embed, [-2, -1], [2, 3]
    )
    clean = np.asarray(run(held, x, 0.1))
    near = (free >= [-4, -3]) & (free <= [4, 5])
    assert 0 < near.mean() < 0.9
    np.testing.assert_allclose(clean[~near], x[~near] / 1.01, rtol=1e-5)
    np.testing.assert_allclose(clean[near], free[near], rtol=1e-3, atol=1e-2)
    broken = jax.vjp(lambda x: calm(x) * jnp.inf, jnp.ones(2))[1](jnp.array([0.0, 1.0]))[0]
    np.testing.assert_array_equal(broken, [0, 0])
    prior = FlowPrior(held, jnp.asarray(SIGMAS), jnp.ones((2, 2)))
    np.testing.assert_allclose(x + 0.01 * prior.score(x, 0.1), clean, atol=5e-3)
    near = 0.5 * normal(64, 2)
    np.testing.assert_allclose(run(held, near, 0.5), run(model, near, 0.5), atol=1e-3)


def test_samples_of_a_flow_and_temperature():
    model = trained()[0]
    draws = jax.jit(lambda m, t: m.sample(jax.random.key(0), (4000, 2), jnp.asarray(0.1), t))
    exact = truth()
    np.testing.assert_allclose(draws(model, 1.0).mean(0), exact.mean(), atol=0.08)
    np.testing.assert_allclose(
        np.cov(draws(model, 1.0).T), exact.covariance() + 0.01 * np.eye(2), atol=0.1
    )
    cold = draws(model, 0.0)
    np.testing.assert_allclose(cold, np.broadcast_to(cold[:1], cold.shape), atol=1e-5)


def test_stacked_flows_answer_with_the_nearest_level():
    model = trained()[0]
    other = shaken(jax.tree.map(lambda leaf: leaf, model), 0.05)
    stacked = StackedFlowPrior(
        jax.tree.map(lambda a, b: jnp.stack([a, b]), other, model),
        jnp.asarray(SIGMAS),
        jnp.ones((2, 2)),
    )
    assert isinstance(stacked, Prior)
    x = normal(5, 2)
    run = jax.jit(lambda p, x, s: (p.log_prob(x, s), p.score(x, s)))
    for sigma, density, level in ((1.9, other, 2.0), (0.12, model, 0.1)):
        single = FlowPrior(density, stacked.sigmas, stacked.errors)
        for got, expected in zip(run(stacked, x, sigma), run(single, x, level), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [mala(10, 0.2), mmps()], ids=["mala", "mmps"])
def test_flows_separate_in_the_common_sampler(kernel):
    """A flow and a closed form in one call: the same samples as with the true law of the data."""
    exact, other = truth(), truth(((0.5, 0.5), (-0.8, 0.3), (0.1, -0.9)))
    keys = jax.random.split(jax.random.key(0), 3)
    sources = jnp.stack([exact.sample(keys[0], 32), other.sample(keys[1], 32)])
    sigmas, many = jnp.geomspace(2.0, 0.1, 16), jnp.repeat(sources.sum(0), 16, 0)

    def means(prior):
        problem = Problem((prior, other), Linear(jnp.ones(2)), many, jnp.asarray(0.1**2))
        check(kernel, problem, sigmas)
        draws, info = jax.jit(lambda k, p: sample(kernel, k, p, sigmas))(keys[2], problem)
        assert ((info.accepted > 0.5) & (info.accepted <= 1)).all()
        return draws.reshape(2, 32, 16, 2).mean(2)

    ours, right = means(flow_prior()), means(exact)
    spread = float(((right - right.mean(1, keepdims=True)) ** 2).mean())
    assert float(((ours - right) ** 2).mean()) < 0.05 * spread


# ---- integers


def test_bits_of_known_laws():
    """A uniform density costs 8 bits; one that is concentrated on the integers, none."""
    v = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 4, 4, 2)))
    x, log_q = uniform(jax.random.key(0), v)
    assert ((x * 256 >= v) & (x * 256 < v + 1)).all()
    assert (log_q == 0).all()
    np.testing.assert_allclose(bits_per_dim(jnp.zeros(3), 32), 8)
    np.testing.assert_allclose(bits_per_dim(-32 * jnp.log(256.0), 32), 0, atol=1e-5)


def test_variational_noise_has_the_density_it_claims():
    """E[1 / q(u)] over u ~ q is the volume of the unit cube, 1; and u lies inside."""
    v = jnp.full((20000, 1, 2, 1), 7)

    @jax.jit
    def run(v):
        made = VariationalDequantiser(1, 4, 2, 1, 3, rngs=nnx.Rngs(0))
        made = made.initialize(jax.random.key(5), v[:100])
        return shaken(made, 0.1)(jax.random.key(1), v)

    x, log_q = run(v)
    u = x * 256 - v
    assert ((u >= 0) & (u <= 1)).all()
    assert float(u.std()) > 0.1
    assert float(jnp.exp(-log_q).mean()) == pytest.approx(1, abs=0.05)
    assert abs(float(log_q.mean())) > 0.01


def test_what_does_not_fit_is_refused_with_the_remedy():
    for make in (glow, realnvp, flowpp):
        with pytest.raises(ValueError, match=r"divisible by 2 and 2 .* got 5 and 8; pad or cut"):
            jax.eval_shape(lambda make=make: make((5, 8, 1), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="even number of channels"):
        HalfCoupling(3, Affine(), None)
    with pytest.raises(ValueError, match="a prior conv or free"):
        glow((4, 4, 1), 1, 1, 4, prior="none", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="this flow is conditioned"):
        ActNorm(2, 3, rngs=nnx.Rngs(0)).forward(jnp.zeros((1, 1, 1, 2)))
    with pytest.raises(ValueError, match="4 heads"):
        AttentionNet(1, 1, 6, 1, rngs=nnx.Rngs(0))
