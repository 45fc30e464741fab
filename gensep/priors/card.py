"""A prior made ready to ship: float16 weights, a picture of its samples, a card."""

import json
from pathlib import Path

from PIL import Image

from gensep.priors.files import FILE, load_prior, save_prior
from gensep.runtime.files import write_atomically

CARD = """# {source}

A score prior (EDM denoiser of mel spectrogram windows) of solo {source}, for `gensep`.

| | |
|---|---|
| parameters | {parameters:,} ({size:.1f} MB, float16) |
| trained on | renderings of solo lines, {hours:.1f} hours ({tracks} tracks); never a mixture |
| scores | {scores} |
| sounds | {sounds} |
| chosen on | {valid_sounds}: fonts that no training set holds |
| validation loss | {loss:.4f} at step {step} of {steps}, mean over 8 noise levels \
(1: the best linear denoiser of white data) |
| batch, frames, seed | {batch}, {frames}, {seed} |
| recipe | `{recipe}` |
| commit | {commit} |
| licence | MIT, like the code; the licences of GeneralUser GS 2.0, FluidR3 (MIT) and sonivox \
(Apache-2.0) permit it |

![samples of the prior above validation windows](samples.png)
"""

SCORES = (
    "OpenScore Lieder (CC0; voice lines as melody), Bach chorales and classical string "
    "quartets of the music21 corpus (works in the public domain)"
)

RECIPE = (
    "python scripts/train_shipped_priors.py WORK --scores SCORES --sounds FONTS --sources {source}"
)


def write_card(run: Path, output: Path, source: str) -> None:
    """Write `output`/{prior.npz, samples.png, README.md} from a finished run folder."""
    import jax

    from gensep.datasets.spectrograms import read_metadata

    loaded = load_prior(str(run))
    about = loaded.header["about"]
    output.mkdir(parents=True, exist_ok=True)
    described = json.loads((run / "run.json").read_text())
    shipped = {k: v for k, v in about.items() if k not in ("data", "config")}
    save_prior(
        output / FILE,
        loaded.header["kind"],
        loaded.prior,
        loaded.header["settings"],
        loaded.representation,
        half=True,
        **shipped,
    )
    if (run / "samples.png").exists():
        with Image.open(run / "samples.png") as picture:
            small = picture.convert("RGB").quantize(48, dither=Image.Dither.NONE)
        small.save(output / "samples.png", optimize=True)
    try:
        splits = read_metadata(about["data"])["splits"]
    except Exception:  # the data may be gone by now; the card then says so
        splits = {"train": {}}
    frames = sum(splits["train"].values())
    representation = loaded.representation
    hours = frames * representation.hop_length / representation.sample_rate / 3600
    c = about["config"]
    write_atomically(
        output / "README.md",
        CARD.format(
            source=source,
            parameters=sum(x.size for x in jax.tree.leaves(loaded.prior.denoiser.net)),
            size=(output / FILE).stat().st_size / 1e6,
            hours=hours,
            tracks=len(splits["train"]),
            scores=SCORES,
            sounds="GeneralUser GS 1.47, FluidR3 GM, sonivox; near programs, layered",
            valid_sounds="TimGM6mb and the csound GM bank",
            loss=about["valid_loss"],
            step=about["step"],
            steps=c["steps"],
            batch=c["batch"],
            frames=c["frames"],
            seed=c["seed"],
            recipe=RECIPE.format(source=source),
            commit=described["commit"] or "-",
        ),
    )
