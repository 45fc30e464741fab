"""Sample a prior alone, to see what it has learnt before it separates anything.

Writes samples.png, samples.npz (`samples` [n, ...] in model units) and sample.json; for a prior of
spectrograms also sample_01.wav ..., with phases by Griffin-Lim. Samplers: `heun`, the
probability-flow ODE, is the fastest (twice --steps network evaluations); `predictor-corrector`
adds Langevin steps, which correct errors of earlier levels; `sde`, the reverse diffusion, needs
many levels (its variance is 13 % too small with 64, 5 % with 200); `langevin` is annealed Langevin
dynamics, as score networks were first sampled (Song and Ermon 2019). Examples:

  python -m gensep.sample violin --n 4 --frames 128
  python -m gensep.sample runs/mnist --n 64 --sampler heun --steps 18
  python -m gensep.sample runs/mnist --n 1000 --quality --data_dir data/mnist
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gensep.cli import config
from gensep.cli.options import Count, Positional, PriorName, choices
from gensep.runtime.errors import UserError, run

if TYPE_CHECKING:
    import numpy as np

    from gensep.priors.files import LoadedPrior
    from gensep.representation.form import Form
    from gensep.representation.mel import Representation

ROW, SHOWN = 8, 64  # samples in a row of the picture, and in all


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.sample."""

    prior: Positional[PriorName]
    """Shipped name, run folder or prior file."""
    n: Count = 32
    """Number of samples."""
    sampler: Annotated[str, choices("gensep.priors.unconditional:KERNELS")] = "heun"
    """How noise becomes a sample, see above."""
    steps: Count | None = None
    """Number of noise levels; by default 48, or all those of a network with fixed noise levels."""
    corrections: Count | None = None
    """Langevin steps per noise level; by default 2 of predictor-corrector, 100 of langevin."""
    frames: Count | None = None
    """Length of spectrograms in frames; by default that of training."""
    seed: int = 0
    """Seed of the samples."""
    batch: Count = 16
    """Samples that are computed at once; another number gives other samples for the same seed."""
    output: str = "samples/{name}"
    """Folder to write to; {name} is the name of the prior."""
    audio: bool = True
    """Write the sound of every spectrogram."""
    quality: bool = False
    """Rate samples of images by a small classifier, trained here once: classifier score and
    Frechet distance to the test images."""
    data_dir: str | None = None
    """Folder with the files of the set of images, for --quality."""


def main(argv: list[str]) -> None:
    """Sample, write the files, and report the folder and the time."""
    c = config.parse(Config, argv)
    import numpy as np
    from tqdm import tqdm

    from gensep.cli.records import Json, write_record
    from gensep.priors.files import load_prior
    from gensep.priors.unconditional import make_kernel, noise_levels, sample_prior, shape_of
    from gensep.representation.form import is_sound
    from gensep.runtime.files import new_folder, output_folder, save_arrays

    loaded, parts = load_prior(c.prior), []
    _check(c, loaded)
    folder, began = output_folder(c.output, name=loaded.name), time.perf_counter()
    sigmas, kernel = noise_levels(loaded, c.steps), make_kernel(c.sampler, c.corrections)
    batches = sample_prior(
        loaded.prior, c.seed, c.n, c.batch, shape_of(loaded, c.frames), sigmas, kernel
    )
    bar = tqdm(total=c.n, unit="sample", desc=loaded.name, leave=False, disable=None)
    with new_folder(folder), bar:
        for batch in batches:
            parts.append(batch)
            bar.update(len(batch))
    samples = np.concatenate(parts)
    facts: Json = {"prior": loaded.name, "shape": list(samples.shape[1:])}
    facts["sigmas"] = [round(float(s), 6) for s in sigmas]
    facts["seconds"] = round(time.perf_counter() - began, 2)
    save_arrays(folder / "samples.npz", {"samples": samples})
    plot_samples(folder / "samples.png", samples, loaded.form)
    if c.audio and is_sound(loaded.form):
        write_waves(folder, samples, loaded.form, c.seed)
    if c.quality:
        facts["quality"] = judge(samples, loaded.form.name, Path(c.output).parent, c.data_dir)
    write_record(folder / "sample.json", c, facts)
    print(f"{c.n} samples of {loaded.name} in {folder}: {facts['seconds']:.1f} s", file=sys.stderr)
    for name, value in facts.get("quality", {}).items():
        print(f"{name:<24} {value:.4g}")


def _check(c: Config, loaded: "LoadedPrior") -> None:
    """Refuse options that the sampler or the form of the prior does not have."""
    from gensep.datasets.images import SETS
    from gensep.priors.unconditional import CORRECTIONS

    if c.corrections and c.sampler not in CORRECTIONS:
        raise UserError(
            f"{c.sampler} has no Langevin steps; --corrections is for {', '.join(CORRECTIONS)}"
        )
    if c.frames and not loaded.form.audible or c.quality and loaded.form.name not in SETS:
        raise UserError(
            f"{loaded.name} is a prior of {loaded.form.describe()}; "
            "--frames is for spectrograms, --quality for images"
        )


def plot_samples(path: Path, samples: "np.ndarray", form: "Form") -> None:
    """Draw the first samples in rows."""
    from gensep.plots.examples import plot_examples

    shown = samples[:SHOWN]
    starts = range(0, len(shown), ROW)
    rows = {f"{i + 1} to {min(i + ROW, len(shown))}": shown[i : i + ROW] for i in starts}
    plot_examples(path, rows, form)


def write_waves(folder: Path, samples: "np.ndarray", form: "Representation", seed: int) -> None:
    """Write the sound of spectrograms `[n, frames, mel]`, all files or none."""
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


def judge(samples: "np.ndarray", name: str, folder: Path, data_dir: str | None) -> dict[str, float]:
    """Return the measures of `gensep.images.quality` against the test images of the set `name`.

    The classifier that they need is kept in `folder`.
    """
    from gensep.datasets.images import load_images
    from gensep.images.quality import figures, get_classifier
    from gensep.representation.image import PIXEL_VALUES

    real = (load_images(name, "test", data_dir)[0] + 0.5) / PIXEL_VALUES
    return figures(get_classifier(name, folder, data_dir), samples, real)


if __name__ == "__main__":
    run(main)
