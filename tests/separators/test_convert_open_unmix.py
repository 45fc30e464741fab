"""Open-Unmix against PyTorch: the same weights give the same magnitudes and waves."""

import json
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gensep.inversion.em import stems_of
from gensep.representation.magnitude import Spectra
from gensep.runtime.errors import UserError
from gensep.runtime.model_files import fill
from gensep.separators.files import load_separator
from gensep.separators.networks import make_separator
from helpers import load, open_unmix

pytestmark = pytest.mark.usefixtures("hasty")
converter = load("scripts/convert_open_unmix.py")
reference = np.load(open_unmix.FILE)


def converted(ways=2):
    states = open_unmix.states(ways)
    settings = converter.network_settings(open_unmix.SOURCES, open_unmix.FORM, states)
    like = jax.eval_shape(lambda: make_separator(settings))
    return settings, fill(like, converter.network_arrays(states))


def separated(network, spectra):
    """Return the spectrum of the mixture and the magnitudes of its sources."""
    mixture = spectra.transform(jnp.asarray(open_unmix.wave()))
    apply = jax.jit(lambda network, mixture: network(jnp.abs(mixture)[None])[0])
    return mixture, apply(network, mixture)


@pytest.fixture(scope="module")
def ours():
    settings, network = converted()
    spectra = Spectra(**settings["spectra"])
    return spectra, *separated(network, spectra)


def waves(ours, iterations, softmask, residual):
    spectra, mixture, estimates = ours
    options = {"iterations": iterations, "softmask": softmask, "residual": residual}
    return spectra.waves(stems_of(estimates, mixture, **options), open_unmix.SAMPLES)


def close(mine, theirs):
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_magnitudes_of_both_directions(ours):
    close(ours[2][:, :, open_unmix.FRAMES], reference["magnitudes_2"])


def test_magnitudes_of_one_direction():
    settings, network = converted(1)
    _, estimates = separated(network, Spectra(**settings["spectra"]))
    assert settings["unidirectional"]
    close(estimates[:, :, open_unmix.FRAMES], reference["magnitudes_1"])


@pytest.mark.parametrize("way", open_unmix.WAYS[::3], ids=str)
def test_waves(ours, way):
    close(waves(ours, *way)[..., open_unmix.SHOWN], reference[f"{way}"])


def test_agreement_with_the_package_itself(ours):
    pytest.importorskip("openunmix")
    close(ours[2], open_unmix.magnitudes_by_pytorch())
    for way in open_unmix.WAYS:
        theirs = open_unmix.waves_by_pytorch(*way)
        close(waves(ours, *way), theirs)
        np.testing.assert_allclose(reference[f"{way}"], theirs[..., open_unmix.SHOWN], atol=1e-5)


@pytest.fixture
def folder(tmp_path):
    """Return a model folder as the training script of Open-Unmix writes it."""
    torch = pytest.importorskip("torch")
    for name, state in zip(open_unmix.SOURCES, open_unmix.states(), strict=True):
        tensors = {k: torch.from_numpy(v) for k, v in state.items()}
        torch.save(tensors | {"stft.window": torch.ones(64)}, tmp_path / f"{name}-0a1b.pth")
        (tmp_path / f"{name}.json").write_text("{}")
    (tmp_path / "separator.json").write_text(json.dumps(open_unmix.FORM))
    return tmp_path


def test_a_folder_becomes_a_separator_file(folder, ours):
    converter.main([str(folder), str(folder / "out")])
    loaded = load_separator(str(folder / "out"))
    assert loaded.sources == open_unmix.SOURCES
    np.testing.assert_allclose(separated(loaded.network, loaded.spectra)[1], ours[2], rtol=1e-5)


def refused(folder, *targets):
    with pytest.raises(UserError) as error:
        converter.convert(folder, folder / "separator.npz", targets)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_folders(tmp_path):
    form = tmp_path / "separator.json"
    assert "expected a model folder of Open-Unmix 1.3" in refused(tmp_path)
    form.write_text("{")
    assert "is not JSON" in refused(tmp_path)
    form.write_text("[]")
    assert "holds no fields" in refused(tmp_path)
    form.write_text(json.dumps(open_unmix.FORM))
    assert "has no target" in refused(tmp_path)
    (tmp_path / "vocals.json").write_text("{}")
    assert "no weights of vocals: expected vocals.pth" in refused(tmp_path)


def test_wrong_weights(folder):
    torch = pytest.importorskip("torch")
    (path,) = folder.glob("vocals-*.pth")
    whole = torch.load(path, weights_only=True)
    form = folder / "separator.json"
    form.write_text(json.dumps(open_unmix.FORM | {"nfft": 128}))
    assert "nfft 128 and 2 channels, the weights have 33 bins" in refused(folder)
    form.write_text(json.dumps({"nfft": 64}))
    assert "sample_rate is missing" in refused(folder)
    form.write_text(json.dumps(open_unmix.FORM))
    torch.save({k: v for k, v in whole.items() if k != "fc2.weight"}, path)
    assert "fc2.weight is missing" in refused(folder)
    torch.save(whole | {"fc2.weight": torch.ones(8, 9)}, path)
    assert "do not fit together" in refused(folder)
    assert "middle.kernel is missing or of another size" in refused(folder, "vocals")
    torch.save([1, 2], path)
    assert "plain tensors alone" in refused(folder)
    path.write_bytes(pickle.dumps(print))
    assert "plain tensors alone" in refused(folder)


def test_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "separator.json").write_text(json.dumps(open_unmix.FORM))
    for name in ("vocals.json", "vocals.pth"):
        (tmp_path / name).write_text("{}")
    assert "pip install gensep[convert]" in refused(tmp_path)
