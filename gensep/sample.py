"""Draw from a prior alone: what it has learnt, before it is asked to separate anything.

Writes samples.png, samples.npz (`samples` [n, ...] in model units) and sample.json; of a prior of
spectrograms also sample_01.wav ..., phases by Griffin-Lim. Samplers: `heun`, the
probability-flow ODE, is the quickest (twice --steps network evaluations); `predictor-corrector`
adds Langevin steps, which mend the errors of earlier levels; `sde`, the reverse diffusion, wants
many levels (its variance is 13 % short with 64, 5 % with 200); `langevin` is annealed Langevin
dynamics, as score networks were first sampled. Examples:

  python -m gensep.sample violin --n 4 --frames 128
  python -m gensep.sample runs/mnist --n 64 --sampler heun --steps 18
  python -m gensep.sample runs/mnist --n 1000 --quality --data_dir data/mnist
"""

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError, run

if TYPE_CHECKING:
    import numpy as np

    from gensep.priors.files import LoadedPrior

PROG = "python -m gensep.sample"
ROW, SHOWN = 8, 64  # samples in a row of the picture, and in all


@dataclass(frozen=True)
class Config:
    """Options of `gensep.sample`."""

    prior: str = option(..., "shipped name, run folder or prior file", positional=True)
    n: int = option(32, "samples")
    sampler: Literal["sde", "heun", "predictor-corrector", "langevin"] = option(
        "heun", "how noise becomes a sample"
    )
    steps: int | None = option(
        None, "noise levels; by default 48, or those that a network of fixed levels knows"
    )
    corrections: int | None = option(
        None, "Langevin steps a level: by default 2 of predictor-corrector, 100 of langevin"
    )
    frames: int | None = option(None, "length of spectrograms; by default that of training")
    seed: int = option(0, "seed of the samples")
    batch: int = option(16, "samples at once; part of what a seed means")
    output: str = option("samples/{name}", "folder; {name} is the prior's")
    audio: bool = option(True, "write a wave of every spectrogram")
    quality: bool = option(
        False,
        "images: classifier score and Frechet distance to "
        "the test images, by a small classifier that is trained here once",
    )
    data_dir: str | None = option(None, "folder with the files of the set of images, for --quality")

    def __post_init__(self):
        for name in ("n", "steps", "corrections", "frames", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")


def main(argv: list[str]) -> None:
    """Draw, write, and say where."""
    c = config.parse(Config, argv, prog=PROG, about=__doc__ or "")
    from gensep.priors.files import load_prior
    from gensep.priors.unconditional import CORRECTIONS
    from gensep.representation.image import ImageForm
    from gensep.runtime.files import new_folder, save_arrays

    if c.corrections and c.sampler not in CORRECTIONS:
        raise UserError(f"{c.sampler} makes no corrections; they are for {', '.join(CORRECTIONS)}")
    loaded = load_prior(c.prior)
    images = isinstance(loaded.representation, ImageForm)
    if images and c.frames or not images and c.quality:
        raise UserError(
            f"{loaded.name} is a prior of {'images' if images else 'spectrograms'}; "
            "--frames is for spectrograms, --quality for images"
        )
    folder = Path(c.output.replace("{name}", loaded.name))
    began = time.perf_counter()
    with new_folder(folder):
        samples, about = draw_all(c, loaded)
    about["seconds"] = round(time.perf_counter() - began, 2)
    save_arrays(folder / "samples.npz", {"samples": samples})
    picture(folder / "samples.png", samples, images=images)
    if not images and c.audio:
        write_waves(folder, samples, loaded.representation, c.seed)
    if c.quality:
        about["quality"] = judge(c, loaded.representation.name, samples)
    write_record(folder, about, c)
    print(f"{c.n} samples of {loaded.name} in {folder}: {about['seconds']:.1f} s", file=sys.stderr)
    for name, value in about.get("quality", {}).items():
        print(f"{name:<24} {value:.4g}")


def draw_all(c: Config, loaded: "LoadedPrior") -> tuple["np.ndarray", dict[str, Any]]:
    """Draw `[n, ...]` in model units, batch by batch, and tell at what price."""
    import jax
    import numpy as np
    from tqdm import tqdm

    from gensep.priors.unconditional import draw, make_kernel, noise_levels, shape_of

    sigmas = noise_levels(loaded, c.steps)
    kernel = make_kernel(c.sampler, c.corrections)
    shape = (min(c.batch, c.n), *shape_of(loaded, c.frames))
    key = jax.random.key(c.seed)
    drawn: list[np.ndarray] = []
    with tqdm(total=c.n, unit="sample", desc=loaded.name, leave=False, disable=None) as bar:
        while len(drawn) * shape[0] < c.n:
            own = jax.random.fold_in(key, len(drawn))
            drawn.append(np.asarray(draw(loaded.prior, own, shape, sigmas, kernel)))
            bar.update(min(shape[0], c.n - bar.n))
    return np.concatenate(drawn)[: c.n], {
        "prior": loaded.name,
        "shape": list(shape[1:]),
        "sigmas": [round(float(s), 6) for s in sigmas],
    }


def picture(path: Path, samples: "np.ndarray", *, images: bool) -> None:
    """Draw the first samples in rows."""
    from gensep.plots.images import plot_images
    from gensep.plots.spectrograms import plot_windows

    shown = samples[:SHOWN]
    rows = {
        f"{i + 1} to {min(i + ROW, len(shown))}": shown[i : i + ROW]
        for i in range(0, len(shown), ROW)
    }
    (plot_images if images else plot_windows)(path, rows)


def write_waves(folder: Path, samples: "np.ndarray", form: Any, seed: int) -> None:
    """Write the sound of spectrograms, all files or none."""
    import numpy as np

    from gensep.audio.stems import StemWriter
    from gensep.inversion.resynthesis import invert_power

    digits = max(2, len(str(len(samples))))
    paths = [folder / f"sample_{i + 1:0{digits}}.wav" for i in range(len(samples))]
    length = (samples.shape[1] - 1) * form.hop_length
    with StemWriter(paths, form.sample_rate, 1, length) as writer:
        for block in invert_power(np.asarray(form.decode(samples)), form, seed=seed):
            for i, wave in enumerate(block):
                writer.write(i, wave)


def judge(c: Config, name: str, samples: "np.ndarray") -> dict[str, float]:
    """Give the figures of `gensep.images.quality` against the test images of the set."""
    from gensep.datasets.images import load_images
    from gensep.images.quality import figures, get_classifier
    from gensep.representation.image import LEVELS

    real = (load_images(name, "test", c.data_dir)[0] + 0.5) / LEVELS
    classifier = get_classifier(name, Path(c.output).parent, c.data_dir)
    return figures(classifier, samples, real)


def write_record(folder: Path, about: dict[str, Any], c: Config) -> None:
    """Write sample.json: what was drawn, by what, and how it came out."""
    from gensep.cli.records import command, commit, versions
    from gensep.runtime.files import write_atomically

    record = {
        **about,
        "options": dataclasses.asdict(c),
        "command": command(c, PROG),
        "versions": versions(),
        "commit": commit(),
    }
    write_atomically(folder / "sample.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
