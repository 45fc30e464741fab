"""Make a separator file from a folder of Open-Unmix 1.3: umxhq, umxl or a model of one's own.

The folder holds separator.json and, for every target, TARGET.json and TARGET.pth (or
TARGET-HASH.pth). Weights are read by PyTorch with weights_only=True, so that no code in them runs:
`pip install gensep[convert]`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gensep.cli.config import parse
from gensep.cli.options import Positional
from gensep.cli.records import Json
from gensep.runtime import errors
from gensep.runtime.errors import UserError

States = Sequence[Mapping[str, np.ndarray]]
FORM = {"sample_rate": "sample_rate", "nfft": "n_fft", "nhop": "hop_length"}
NORMS = {"bn1": "encoder_norm", "bn2": "middle_norm", "bn3": "decoder_norm"}
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
DENSE = {"fc1": "encoder", "fc2": "middle", "fc3": "decoder"}
LSTM = {
    "weight_ih": "input_kernel",
    "weight_hh": "hidden_kernel",
    "bias_ih": "input_bias",
    "bias_hh": "hidden_bias",
}
PLAIN = "input_mean", "input_scale", "output_scale", "output_mean"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the command."""

    folder: Positional[str]
    """Folder with separator.json and TARGET.json, TARGET.pth of every target."""
    output: Positional[str]
    """Separator file to write, ending in .npz, or a folder for separator.npz."""
    targets: tuple[str, ...] = ()
    """Targets to take, in this order; by default all, vocals, drums, bass and other first."""


def network_arrays(states: States) -> dict[str, np.ndarray]:
    """Return the weights of the row `umx` by their path, from one PyTorch state per source.

    Raises:
        KeyError: if an array is missing.
        ValueError: if the states differ in their shapes.
    """

    def stacked(name: str) -> np.ndarray:
        """Stack an array over sources, with the axis of what enters before what leaves."""
        return np.stack([state[name].T for state in states])

    arrays = {name: stacked(name) for name in PLAIN}
    for theirs, ours in DENSE.items():
        arrays[f"{ours}.kernel"] = stacked(f"{theirs}.weight")
    for theirs, ours in NORMS.items():
        for part, name in NORM.items():
            arrays[f"{ours}.{name}"] = stacked(f"{theirs}.{part}")
    ways = ("", "_reverse") if "lstm.weight_ih_l0_reverse" in states[0] else ("",)
    for layer in range(_layers(states[0])):
        for theirs, ours in LSTM.items():
            both = [stacked(f"lstm.{theirs}_l{layer}{way}") for way in ways]
            arrays[f"lstm.layers.{layer}.{ours}"] = np.stack(both, 1)
    return arrays


def _layers(state: Mapping[str, np.ndarray]) -> int:
    count = 0
    while f"lstm.weight_ih_l{count}" in state:
        count += 1
    return count


def network_settings(sources: Sequence[str], form: Json, states: States) -> Json:
    """Return the settings of the network, see `gensep.separators.networks`.

    `form` are the fields of separator.json.

    Raises:
        KeyError: if a field or an array is missing.
        ValueError: if the form and the weights do not fit together.
    """
    from gensep.separators.networks import settings_of

    first = states[0]
    spectra = {ours: int(form[theirs]) for theirs, ours in FORM.items()}
    bins, seen = first["output_mean"].size, first["input_mean"].size
    channels = first["fc3.weight"].shape[0] // bins
    if (spectra["n_fft"] // 2 + 1, int(form["nb_channels"])) != (bins, channels):
        raise ValueError(
            f"separator.json has nfft {form['nfft']} and {form['nb_channels']} channels, "
            f"the weights have {bins} bins and {channels} channels"
        )
    return settings_of(
        "umx",
        sources,
        {**spectra, "channels": channels},
        width=first["fc1.weight"].shape[0],
        layers=_layers(first),
        unidirectional="lstm.weight_ih_l0_reverse" not in first,
        bandwidth=math.ceil((seen - 1) * spectra["sample_rate"] / spectra["n_fft"]),
    )


def convert(folder: Path, output: Path, targets: Sequence[str] = ()) -> None:
    """Write a separator file.

    Raises:
        UserError: if something is missing in the folder or unreadable, or the parts do not fit.
    """
    import jax

    from gensep.runtime.model_files import fill
    from gensep.separators.files import save_separator
    from gensep.separators.networks import make_separator

    form = _read_json(folder / "separator.json")
    sources = list(targets) or find_targets(folder)
    states = [_read_state(_weights_file(folder, target)) for target in sources]
    try:
        settings = network_settings(sources, form, states)
        like = jax.eval_shape(lambda: make_separator(settings))
        network = fill(like, network_arrays(states))
    except KeyError as error:
        raise UserError(
            f"{folder} is not a model of Open-Unmix 1.3: {error.args[0]} is missing or of another "
            "size; expected one as its training script writes it"
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"the parts of {folder} do not fit together ({error}); fetch the model again"
        ) from None
    save_separator(output, network, settings, converted_from="Open-Unmix 1.3")


def find_targets(folder: Path) -> list[str]:
    """Return the targets of a folder, those of the default row first.

    Raises:
        UserError: if there are none.
    """
    from gensep.separators.networks import SEPARATORS

    there = sorted(path.stem for path in folder.glob("*.json") if path.stem != "separator")
    if not there:
        raise UserError(f"{folder} has no target: expected TARGET.json beside TARGET.pth")
    known = [name for name in SEPARATORS["umx"].sources if name in there]
    return known + [name for name in there if name not in known]


def _weights_file(folder: Path, target: str) -> Path:
    """Return TARGET.pth or TARGET-HASH.pth."""
    plain = folder / f"{target}.pth"
    found = [plain] if plain.exists() else sorted(folder.glob(f"{target}-*.pth"))
    if len(found) != 1:
        raise UserError(
            f"{folder} has {len(found) or 'no'} weights of {target}: expected {target}.pth"
        )
    return found[0]


def _read_json(path: Path) -> Json:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"no {path}: expected a model folder of Open-Unmix 1.3, whose separator.json has "
            "sample_rate, nfft, nhop and nb_channels"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not JSON ({error}); fetch the model again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no fields; fetch the model again")
    return content


def _read_state(path: Path) -> dict[str, np.ndarray]:
    """Read a PyTorch file of named tensors and nothing else."""
    try:
        import torch
    except ImportError:
        raise UserError("converting needs PyTorch; run 'pip install gensep[convert]'") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001: any failure to read it is one of the file
        reason = str(error).split("\n")[0][:120]
        raise UserError(
            f"{path} does not hold plain tensors alone ({reason}); expected the weights of one "
            "target as Open-Unmix 1.3 saves them"
        ) from None
    if not isinstance(state, dict) or not all(torch.is_tensor(x) for x in state.values()):
        raise UserError(
            f"{path} does not hold plain tensors alone; expected the weights of one target as "
            "Open-Unmix 1.3 saves them"
        )
    return {name: tensor.detach().numpy() for name, tensor in state.items()}


def main(argv: list[str]) -> None:
    """Convert one folder."""
    c = parse(Config, argv)
    from gensep.runtime.files import check_writable
    from gensep.separators.files import FILE

    output = Path(c.output)
    if output.suffix != ".npz":
        output = output / FILE
    check_writable(output.parent)
    convert(Path(c.folder), output, c.targets)
    print(f"wrote {output}")


if __name__ == "__main__":
    errors.run(main)
