"""A prior made ready to ship: float16 weights, a small picture, and the facts for its card."""

import json
from pathlib import Path

from PIL import Image

from gensep.cli.records import Json
from gensep.priors.files import FILE, load_prior, save_prior
from gensep.representation.form import Form, is_sound
from gensep.runtime.errors import UserError
from gensep.runtime.trees import by_path


def export_prior(run: Path, output: Path) -> Json:
    """Write `output`/{prior.npz, samples.png} from a finished run folder of a prior of sound.

    Return what a model card tells about the prior, as far as its files know it: "-" for an unknown
    commit, 0 hours of training data if the data set is gone.
    """
    loaded = load_prior(str(run))
    about = loaded.header["about"]
    output.mkdir(parents=True, exist_ok=True)
    shipped = {k: v for k, v in about.items() if k not in ("data", "config")}
    kind, settings = loaded.header["kind"], loaded.header["settings"]
    save_prior(output / FILE, kind, loaded.prior, settings, loaded.form, half=True, **shipped)
    if (run / "samples.png").exists():
        with Image.open(run / "samples.png") as picture:
            small = picture.convert("RGB").quantize(48, dither=Image.Dither.NONE)
        small.save(output / "samples.png", optimize=True)
    hours, tracks = _amount(about["data"], loaded.form)
    c, arrays = about["config"], by_path(loaded.prior)
    names = [path for path in arrays if path.startswith("denoiser.net.")]
    return {
        "parameters": sum(arrays[path].size for path in names),
        "size": (output / FILE).stat().st_size / 1e6,  # MB
        "hours": hours,
        "tracks": tracks,
        "loss": about["valid_loss"],
        "step": about["step"],
        "commit": json.loads((run / "run.json").read_text())["commit"] or "-",
        **{name: c[name] for name in ("steps", "batch", "frames", "seed")},
    }


def _amount(data: str, form: Form) -> tuple[float, int]:
    """Return hours and number of the training tracks of a data set; 0 if it is gone by now."""
    from gensep.datasets.spectrograms import read_metadata

    try:
        tracks = read_metadata(data)["splits"]["train"]
    except (UserError, KeyError):
        return 0.0, 0
    seconds = form.hop_length / form.sample_rate if is_sound(form) else 0.0
    return sum(tracks.values()) * seconds / 3600, len(tracks)
