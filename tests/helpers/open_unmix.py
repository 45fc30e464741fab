"""Random weights of Open-Unmix by PyTorch's names, and what PyTorch makes of them.

`python tests/helpers/open_unmix.py` writes open_unmix.npz again; it needs openunmix 1.3.
"""

from itertools import product
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("open_unmix.npz")
FORM = {"sample_rate": 8000, "nfft": 64, "nhop": 16, "nb_channels": 2}
SOURCES = "vocals", "drums"
BINS, SEEN, WIDTH = 33, 24, 8
SAMPLES = 5000  # 313 frames: more than one window of EM
# iterations, softmask, residual
WAYS = list(product((0, 1, 2), (False, True), (False, True)))
SHOWN = np.arange(5, SAMPLES, 311)
FRAMES = np.arange(0, 313, 39)


def states(ways=2):
    """Return the state of a network per source, with weights that numpy draws."""
    hidden, shapes = WIDTH // ways, {}
    for layer in range(3):
        for suffix in ("", "_reverse")[:ways]:
            shapes |= {
                f"lstm.weight_ih_l{layer}{suffix}": (4 * hidden, WIDTH),
                f"lstm.weight_hh_l{layer}{suffix}": (4 * hidden, hidden),
                f"lstm.bias_ih_l{layer}{suffix}": (4 * hidden,),
                f"lstm.bias_hh_l{layer}{suffix}": (4 * hidden,),
            }
    for i, (size, out) in enumerate([(2 * SEEN, WIDTH), (2 * WIDTH, WIDTH), (WIDTH, 2 * BINS)]):
        shapes[f"fc{i + 1}.weight"] = out, size
        names = "weight", "bias", "running_mean", "running_var"
        shapes |= {f"bn{i + 1}.{name}": (out,) for name in names}
    shapes |= {f"input_{name}": (SEEN,) for name in ("mean", "scale")}
    shapes |= {f"output_{name}": (BINS,) for name in ("mean", "scale")}
    rng = np.random.default_rng(0)
    drawn = [{name: rng.random(shape) - 0.5 for name, shape in shapes.items()} for _ in SOURCES]
    for state in drawn:
        for name in state:
            if "running_var" in name or "scale" in name or "output_mean" in name:
                state[name] += 1
    return [{k: v.astype(np.float32) for k, v in state.items()} for state in drawn]


def wave():
    """Return a stereo mixture `[channel, sample]`."""
    rng = np.random.default_rng(1)
    return (rng.random((2, SAMPLES)) - 0.5).astype(np.float32)


def networks(ways=2):
    """Return PyTorch's networks by source."""
    import torch
    from openunmix.model import OpenUnmix

    made = {}
    for name, state in zip(SOURCES, states(ways), strict=True):
        sizes = {"nb_channels": 2, "hidden_size": WIDTH, "max_bin": SEEN}
        made[name] = OpenUnmix(BINS, **sizes, unidirectional=ways == 1)
        tensors = {k: torch.from_numpy(v) for k, v in state.items()}
        missing, unexpected = made[name].load_state_dict(tensors, strict=False)
        assert not unexpected
        assert all(key.endswith("num_batches_tracked") for key in missing)
        made[name].eval()
    return made


def magnitudes_by_pytorch(ways=2):
    """Return the estimates `[source, channel, frame, bin]`."""
    import torch
    from openunmix.model import Separator

    made = networks(ways)
    whole = Separator(made, n_fft=FORM["nfft"], n_hop=FORM["nhop"])
    with torch.no_grad():
        mixture = whole.complexnorm(whole.stft(torch.from_numpy(wave()[None])))
        out = [network(mixture.clone())[0] for network in made.values()]
    return torch.stack(out).numpy().swapaxes(2, 3)


def waves_by_pytorch(iterations, softmask, residual):
    """Return the stems `[source, channel, sample]`."""
    import torch
    from openunmix.model import Separator

    options = {"niter": iterations, "softmask": softmask, "residual": residual}
    whole = Separator(networks(), n_fft=FORM["nfft"], n_hop=FORM["nhop"], **options)
    whole.freeze()
    return whole(torch.from_numpy(wave()[None]))[0].numpy()


if __name__ == "__main__":
    numbers = {f"{way}": waves_by_pytorch(*way)[..., SHOWN] for way in WAYS}
    for ways in (1, 2):
        numbers[f"magnitudes_{ways}"] = magnitudes_by_pytorch(ways)[:, :, FRAMES]
    np.savez_compressed(FILE, **numbers)
