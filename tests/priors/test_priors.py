"""Every kind of prior behind the one protocol; windows of a prior; prior files."""

import os
import pickle
from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from basis import Gaussian, Prior, check_levels
from basis.prior import spread
from basis.windowed import Windowed, windowed
from gensep import train_ncsn
from gensep.priors import files, score_networks
from gensep.representation.image import ImageForm
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.trees import by_path
from gensep.training.score_task import ScoreTask
from score import DenoiserPrior

pytestmark = pytest.mark.usefixtures("hasty")

BANDS = 5
SETTINGS = {
    "n_mels": BANDS,
    "width": 8,
    "blocks": 2,
    "levels": 4,
    "sigma_data": 0.6,
    "mean": [0.1 * i for i in range(BANDS)],
}
SMALL = Representation(n_fft=512, hop_length=256, n_mels=BANDS)


def gaussian(seed=0):
    rng = np.random.default_rng(seed)
    return Gaussian(
        jnp.asarray(rng.normal(size=BANDS), jnp.float32),
        jnp.asarray(rng.uniform(0.2, 2, BANDS), jnp.float32),
        jnp.array([2.0, 0.02]),
    )


@cache
def edm(seed=0, **changes):
    """Return an untrained network with random weights throughout, zeros included."""
    rng = np.random.default_rng(seed)
    made = score_networks.make_denoiser(SETTINGS | changes, seed)
    made.net = jax.tree.map(
        lambda x: x + np.asarray(0.2 * rng.normal(size=x.shape), x.dtype), made.net
    )
    errors = rng.uniform(0.1, 1, (4, BANDS)).astype(np.float32)
    return DenoiserPrior(made, jnp.array([2.0, 0.5, 0.1, 0.02]), jnp.asarray(errors))


KINDS = {
    "gaussian": gaussian,
    "edm": edm,
    "windowed gaussian": lambda seed=0: windowed(gaussian(seed), 8, 3),
    "windowed edm": lambda seed=0: windowed(edm(seed), 8, 3),
}


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


def noise(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@jax.jit
def score_of(prior, x, sigma):
    return prior.score(x, sigma)


def test_every_kind_is_a_prior(make):
    prior = make()
    assert isinstance(prior, Prior)
    assert not isinstance(prior.sigmas, Prior)
    assert (np.diff(prior.sigmas) < 0).all()
    check_levels([prior], [2.0, 0.3, 0.02])
    with pytest.raises(ValueError, match="no level near sigma=5"):
        check_levels([prior], [5.0])
    for frames in (20, 5):  # over several windows, and within one
        x = noise(2, frames, BANDS)
        score = score_of(prior, x, 0.3)
        assert score.shape == x.shape
        assert score.dtype == jnp.float32
        assert np.isfinite(score).all()
        # batch elements do not see each other
        other = x.copy()
        other[1] += 1
        np.testing.assert_array_equal(score_of(prior, other, 0.3)[0], score[0])


def test_jit_and_vmap_over_stacked_priors_agree_with_each(make):
    both = make(0), make(1)
    x = noise(2, 2, 12, BANDS)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    got = jax.jit(jax.vmap(lambda p, x: p.score(x, jnp.asarray(0.3))))(stacked, x)
    for i, prior in enumerate(both):
        np.testing.assert_allclose(got[i], score_of(prior, x[i], 0.3), atol=1e-4)
    assert np.abs(got[0] - score_of(both[0], x[1], 0.3)).max() > 0.1


def test_spread_is_broadcastable_positive_and_falls_with_sigma(make):
    prior = make()
    spreads = [np.broadcast_to(spread(prior, jnp.asarray(s)), (2, 12, BANDS)) for s in (0.02, 2.0)]
    assert all((s > 0).all() for s in spreads)
    if not isinstance(getattr(prior, "prior", prior), DenoiserPrior):  # its table is random here
        assert (spreads[0] < spreads[1]).all()


def test_score_is_the_gradient_of_the_log_density():
    prior, x = gaussian(), noise(2, 6, BANDS)
    gradient = jax.jit(jax.grad(lambda x: prior.log_prob(x, 0.3).sum()))(x)
    np.testing.assert_allclose(gradient, prior.score(x, 0.3), rtol=1e-5, atol=1e-5)
    # and that density integrates to 1
    flat = Gaussian(jnp.asarray(0.3), jnp.asarray(0.4), prior.sigmas)
    grid = np.linspace(-8, 8, 4001, dtype=np.float32)[:, None]
    assert float(jnp.exp(flat.log_prob(grid, 0.5)).sum() * 16 / 4000) == pytest.approx(1, abs=1e-3)


def test_the_gaussian_spread_is_the_error_of_its_denoiser():
    prior, rng = gaussian(), np.random.default_rng(0)
    mean, sd = np.asarray(prior.mean), np.sqrt(np.asarray(prior.variance))
    clean = mean + sd * rng.normal(size=(200_000, BANDS))
    noisy = clean + 0.5 * rng.normal(size=clean.shape)
    error = noisy + 0.25 * np.asarray(prior.score(noisy, 0.5)) - clean
    np.testing.assert_allclose(error.std(0), prior.spread(jnp.asarray(0.5)), rtol=0.01)


def test_edm_spread_interpolates_the_measured_errors():
    prior = edm()
    for level in range(4):
        np.testing.assert_allclose(
            prior.spread(prior.sigmas[level]), prior.errors[level], rtol=1e-4
        )
    middle = prior.spread(jnp.sqrt(prior.sigmas[0] * prior.sigmas[1]))
    np.testing.assert_allclose(middle, np.sqrt(prior.errors[0] * prior.errors[1]), rtol=1e-4)
    np.testing.assert_allclose(prior.spread(jnp.asarray(9.0)), prior.errors[0], rtol=1e-4)


def test_edm_score_is_tweedies():
    prior, x = edm(), noise(2, 6, BANDS)
    denoised = x + 0.3**2 * np.asarray(score_of(prior, x, 0.3))
    expected = jax.jit(lambda net, x: net(x, jnp.asarray(0.3)))(prior.denoiser, x)
    np.testing.assert_allclose(denoised, expected, atol=1e-5)


@pytest.mark.parametrize(("window", "overlap"), [(8, 3), (8, 0), (8, 7), (9, 4)])
def test_windows_of_a_pointwise_prior_are_that_prior(window, overlap):
    """The tapers sum to 1 at every frame, for any number of frames."""
    prior = gaussian()
    made = windowed(prior, window, overlap)
    for frames in (1, window, window + 1, 61):
        x = noise(1, frames, BANDS)
        np.testing.assert_allclose(
            score_of(made, x, 0.3), score_of(prior, x, 0.3), rtol=2e-6, atol=1e-6
        )


def test_windows_are_cross_faded_by_their_ramps():
    """A prior that returns the frame's place in its window shows where windows lie and weigh."""

    class Place(tuple):
        sigmas = jnp.array([1.0])

        def score(self, x, sigma):
            return jnp.broadcast_to(jnp.arange(x.shape[1], dtype=x.dtype)[:, None], x.shape)

    made = windowed(Place(), 6, 2)
    got = np.asarray(made.score(jnp.zeros((1, 12, 1)), 1.0))[0, :, 0]
    # windows start at 0, 4 and, moved back to end with the file, 6
    weight = np.array([0.25, 0.75, 1, 1, 0.75, 0.25])
    total, place = np.zeros(12), np.zeros(12)
    for start in (0, 4, 6):
        total[start : start + 6] += weight
        place[start : start + 6] += weight * np.arange(6)
    np.testing.assert_allclose(got, place / total, atol=1e-5)


def test_windows_keep_the_members_of_their_prior():
    made = windowed(edm(), 8, 3)
    assert isinstance(made, Windowed)
    np.testing.assert_array_equal(made.sigmas, edm().sigmas)
    np.testing.assert_array_equal(made.spread(0.3), edm().spread(0.3))
    for window, overlap in ((8, 8), (8, -1)):
        with pytest.raises(ValueError, match="0 <= overlap < window = 8"):
            windowed(gaussian(), window, overlap)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "prior.npz"
    files.save_prior(path, "edm", edm(), SETTINGS, SMALL, step=12, note="made by a test")
    return path


def test_files_keep_every_number(saved):
    loaded = files.load_prior(str(saved))
    ours, theirs = by_path(edm()), by_path(loaded.prior)
    assert list(ours) == list(theirs)
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
    assert loaded.form == SMALL
    assert loaded.header["about"] == {"step": 12, "note": "made by a test"}
    x = noise(1, 12, BANDS)
    np.testing.assert_array_equal(score_of(edm(), x, 0.3), score_of(loaded.prior, x, 0.3))
    assert [p.name for p in saved.parent.iterdir()] == ["prior.npz"]


def test_half_precision_is_smaller_and_close(tmp_path):
    prior = edm(width=64)
    for half in (False, True):
        files.save_prior(
            tmp_path / f"{half}.npz", "edm", prior, SETTINGS | {"width": 64}, SMALL, half=half
        )
    sizes = [(tmp_path / f"{half}.npz").stat().st_size for half in (True, False)]
    assert sizes[0] < 0.65 * sizes[1]
    loaded = files.load_prior(str(tmp_path / "True.npz")).prior
    for path, leaf in by_path(loaded).items():
        assert leaf.dtype == jnp.float32, path
        np.testing.assert_allclose(leaf, by_path(prior)[path], rtol=1e-3, atol=1e-4, err_msg=path)
    np.testing.assert_array_equal(loaded.errors, prior.errors)  # small arrays stay whole
    x = noise(1, 12, BANDS)
    whole = score_of(prior, x, 0.3)
    assert np.abs(score_of(loaded, x, 0.3) - whole).max() < 0.01 * np.abs(whole).max()


def test_names_of_files_and_folders(saved):
    """A stem is called after the run folder, or after a file that has a name of its own."""
    folder = saved.parent
    assert files.load_prior(str(folder)).name == folder.name
    assert files.load_prior(str(saved)).name == folder.name
    os.rename(saved, folder / "viola.npz")
    assert files.load_prior(str(folder / "viola.npz")).name == "viola"


def refused(path, words="is not a prior file"):
    with pytest.raises(UserError, match=words) as caught:
        files.load_prior(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_not_priors_are_refused(saved):
    folder, content = saved.parent, saved.read_bytes()
    for name, bad in (
        ("text", b"not a prior at all"),
        ("empty", b""),
        ("zip", b"PK\x03\x04" * 50),
        ("half", content[: len(content) // 2]),
        ("most", content[:-10]),
        ("damaged", content[:900] + b"!!!!!!!!" + content[908:]),
    ):
        (folder / f"{name}.npz").write_bytes(bad)
        assert f"{name}.npz" in refused(folder / f"{name}.npz")
    np.savez(folder / "other.npz", a=np.zeros(3))
    np.savez(folder / "number.npz", header=np.array("3"))
    np.save(folder / "array.npy", np.zeros(3))
    for name in ("other.npz", "number.npz", "array.npy"):
        refused(folder / name)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": SETTINGS | {"width": 12}},
        {"settings": SETTINGS | {"blocks": 3}},
        {"settings": SETTINGS | {"levels": 3}},
        {"kind": "glow"},
        {"representation": {"fft": 1}},
        {"settings": {}},
    ],
)
def test_headers_that_do_not_fit_are_refused(saved, change):
    import json

    with np.load(saved) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"])) | change
    np.savez(saved, **arrays | {"header": np.array(json.dumps(header))})
    refused(saved)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickles_are_never_opened(saved):
    mark = saved.parent / "mark"
    with np.load(saved) as file:
        arrays = dict(file)
    for name, key in (("a", "header"), ("b", next(k for k in arrays if k != "header"))):
        bomb = np.array([Bomb(mark)], dtype=object)
        np.savez(saved.parent / f"{name}.npz", **arrays | {key: bomb})
        refused(saved.parent / f"{name}.npz")
    (saved.parent / "c.npz").write_bytes(pickle.dumps(Bomb(mark)))
    refused(saved.parent / "c.npz")
    assert not mark.exists()


def test_an_unknown_name_lists_what_ships(tmp_path, monkeypatch, saved):
    monkeypatch.setattr(files, "SHIPPED", tmp_path / "assets")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no prior 'tuba'.*train_ncsn") as none:
        files.load_prior("tuba")
    assert "one of  or" not in str(none.value)
    for name in ("violin", "piano"):
        (tmp_path / "assets" / name).mkdir(parents=True)
        os.link(saved, tmp_path / "assets" / name / "prior.npz")
    assert files.shipped_names() == ["piano", "violin"]
    refused("tuba", "no prior 'tuba': .*piano, violin")
    assert files.load_prior("piano").name == "piano"
    # a run folder of that name in the working folder comes first
    (tmp_path / "piano").mkdir()
    files.save_prior(tmp_path / "piano" / "prior.npz", "edm", edm(), SETTINGS, SMALL, mine=True)
    assert files.load_prior("piano").header["about"] == {"mine": True}


def test_a_new_network_is_one_row(monkeypatch):
    """Its own settings come from the form of the data and the options, by the names of the row."""
    row = score_networks.Network(None, ("rescale", "channels"), ("warmup",), geometric=True)
    monkeypatch.setitem(score_networks.NETWORKS, "new", row)
    given = {"data": "d", "run": "r", "network": "new", "schedule": "geometric", "levels": 2}
    c = train_ncsn.Config(**given)  # not `build`, which reads the table from the source
    for form, own in ((SMALL, (False, 1)), (ImageForm("x", 4, 4, 3), (True, 3))):
        size = form.shape(4)
        examples = SimpleNamespace(
            form=form,
            features=form.features,
            batch=lambda *_, size=size: np.zeros((3, *size), np.float32),
            inputs=lambda key, raw: raw,
        )
        settings = ScoreTask(c, examples).settings
        assert list(settings)[-4:] == ["sigmas", *row.of_form, *row.of_options]
        assert (settings["rescale"], settings["channels"], settings["warmup"]) == (*own, c.warmup)
    for wrong in ({"schedule": "lognormal"}, {"compat": True}):
        with pytest.raises(ValueError, match="new has fixed|compat is for ncsnv1 and .* not new"):
            train_ncsn.Config(**given | wrong)


def test_new_weights_reuse_the_program():
    traced = []

    @jax.jit
    def run(prior, x, sigma):
        traced.append(1)
        return prior.score(x, sigma)

    x, make = noise(1, 12, BANDS), partial(windowed, window=8, overlap=3)
    first, second = (run(make(edm(seed)), x, 0.3) for seed in (0, 1))
    run(make(edm(0)), x, 0.7)
    assert len(traced) == 1
    assert np.abs(first - second).max() > 0.1
