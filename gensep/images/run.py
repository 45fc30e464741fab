"""A run of `gensep.basis --images`: pairs of test images mixed, separated, scored and written."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gensep.datasets.images import load_images
from gensep.evaluation.metrics import psnr
from gensep.evaluation.statistics import interval, markdown
from gensep.images.mixtures import MIXES, Chosen, Mix, choose
from gensep.images.separation import Separated, align, best_order, separate_images
from gensep.images.settings import IMAGE_PRESETS, ImageSettings
from gensep.priors.files import LoadedPrior, load_prior
from gensep.representation.image import PIXEL_VALUES
from gensep.runtime.errors import UserError

SHOWN = 10  # mixtures in the picture


class Task(NamedTuple):
    """Mixtures of images with their true sources, and the priors that are to find them."""

    mix: Mix
    chosen: Chosen
    mixture: np.ndarray  # [n, height, width, channels], as the problem takes it
    names: tuple[str, ...]  # of the priors, one a source
    priors: tuple[Any, ...]

    @property
    def shared(self) -> bool:
        """Whether all sources have one prior, so that their order is chance."""
        return len(set(self.names)) == 1


def make_task(
    name: str,
    priors: tuple[str, ...],
    *,
    part: str = "test",
    data_dir: str | None = None,
    mix: str = "average",
    split: bool = False,
    pairs: int = 1000,
    seed: int = 0,
) -> Task:
    """Choose and mix images of a set and load the priors of their sources.

    Args:
        name: of the set of images.
        priors: run folders or files: one for all sources, or one a source.
        part: "test" or "valid".
        data_dir: folder with the files of the set.
        mix: a row of `gensep.images.mixtures.MIXES`.
        split: see `choose`.
        pairs: mixtures.
        seed: of the choice.

    Raises:
        UserError: for an unknown set or mix, or priors that do not fit.
    """
    if mix not in MIXES:
        raise UserError(f"mix must be one of {', '.join(MIXES)}, not '{mix}'")
    how = MIXES[mix]
    if split and how.sources == 1:
        raise UserError(f"--split takes the sources from different classes; --mix {mix} has one")
    images, labels = load_images(name, part, data_dir)
    if len(priors) not in (1, how.sources):
        raise UserError(
            f"expected one prior for all {how.sources} sources of --mix {mix} or one "
            f"for each, got {len(priors)}; name them after --priors"
        )
    loaded = [load_prior(p) for p in priors]
    for one in loaded:
        _check_form(one, name, images.shape[1:])
    loaded = loaded * (how.sources // len(loaded))
    try:
        chosen = choose(images, labels, how.sources, pairs, seed, split=split)
    except ValueError as error:
        raise UserError(str(error)) from None
    return Task(
        how,
        chosen,
        how.observe(chosen.truth),
        tuple(p.name for p in loaded),
        tuple(p.prior for p in loaded),
    )


def _check_form(loaded: LoadedPrior, name: str, shape: tuple[int, ...]) -> None:
    if loaded.form.shape(0) != shape:
        raise UserError(
            f"prior {loaded.name} is of {loaded.form.describe()}, the images of {name} are "
            f"{' x '.join(map(str, shape))}; give --priors a run of gensep.train_ncsn "
            f"--data {name}"
        )


def make_image_settings(preset: str, changes: dict[str, Any]) -> ImageSettings:
    """Give the settings of a preset with some fields changed."""
    return ImageSettings(**{**IMAGE_PRESETS[preset], **changes})


def score(task: Task, estimate: np.ndarray) -> np.ndarray:
    """Give the PSNR of every mixture's estimate `[source, n, ...]`, mean over its sources, dB.

    Estimates are clipped to what pixels can be; where one prior serves all sources, the best of
    their orders counts.
    """
    clipped = np.clip(PIXEL_VALUES * estimate - 0.5, 0, PIXEL_VALUES - 1)
    true = PIXEL_VALUES * task.chosen.truth - 0.5
    return np.array(
        [
            psnr(e, t, data_range=PIXEL_VALUES - 1, permute=task.shared).mean()
            for e, t in zip(clipped.swapaxes(0, 1), true.swapaxes(0, 1), strict=True)
        ]
    )


class Scores(NamedTuple):
    """PSNR of every mixture, dB."""

    mixture: np.ndarray  # the unprocessed mixture in place of every source
    sample: np.ndarray  # one posterior sample
    mean: np.ndarray  # the mean of all samples, weighed by the priors


class Estimates(NamedTuple):
    """What stands for the sources, each `[source, n, height, width, channels]`."""

    sample: np.ndarray
    mean: np.ndarray


def estimate(task: Task, found: Separated) -> Estimates:
    """Give the first sample, and the weighed mean of all, in the order of the likeliest."""
    samples = align(found.samples, found.weights.argmax(0)) if task.shared else found.samples
    shape = (*found.weights.shape, *[1] * (samples.ndim - 3))
    weights = found.weights.reshape(shape)[:, None]
    return Estimates(samples[0], (weights * samples).sum(0))


def score_all(task: Task, estimates: Estimates) -> Scores:
    """Score the estimates and the mixture in their place."""
    unprocessed = task.mix.unprocessed(task.mixture)
    return Scores(score(task, unprocessed), *(score(task, one) for one in estimates))


def table(scores: Scores, found: Separated) -> str:
    """Lay the means with their intervals out as markdown."""
    n, samples = len(scores.mixture), len(found.samples)
    cost = f"{found.forwards} + {found.vjps}"
    one = f"{found.forwards // samples} + {found.vjps // samples}"
    seconds = found.run_seconds / n
    rows = [
        ("unprocessed mixture", interval(scores.mixture), "0", "0"),
        ("one sample", interval(scores.sample), one, f"{seconds / samples:.2f}"),
    ]
    if samples > 1:
        rows.append(
            (f"weighed mean of {samples} samples", interval(scores.mean), cost, f"{seconds:.2f}")
        )
    return markdown(
        ("estimate", f"PSNR dB, mean of {n}", "forwards + VJPs a source", "s a mixture"), rows
    )


def run_images(c: Any, changes: dict[str, Any]) -> None:
    """Separate mixtures of images as the config of gensep.basis says; write what came out."""
    from tqdm import tqdm

    from gensep.runtime.files import new_folder, save_arrays

    settings = make_image_settings(c.preset, changes)
    task = make_task(
        c.images,
        c.priors,
        part=c.part,
        data_dir=c.data_dir,
        mix=c.mix,
        split=c.split,
        pairs=c.pairs,
        seed=c.seed,
    )
    folder = Path(c.output.replace("{name}", c.images).replace("{folder}", "."))
    with (
        new_folder(folder),
        tqdm(
            total=c.pairs * settings.samples,
            desc=f"{c.images}: sampling",
            unit="sample",
            leave=False,
            dynamic_ncols=True,
            disable=None,
        ) as bar,
    ):
        found = separate_images(task.mix, task.priors, task.mixture, settings, bar.update)
    estimates = estimate(task, found)
    scores = score_all(task, estimates)
    page = table(scores, found)
    save_arrays(
        folder / "images.npz",
        {
            "places": task.chosen.places,
            "labels": task.chosen.labels,
            "mean": _bytes(estimates.mean),
            "sample": _bytes(estimates.sample),
        },
    )
    write_record(folder, task, found, scores, settings, c)
    if c.picture:
        draw(folder / "images.png", task, estimates)
    print(page)
    print(
        f"{c.pairs} mixtures in {folder}: sampled in {found.run_seconds:.1f} s, compiled in "
        f"{found.compile_seconds:.1f} s",
        file=sys.stderr,
    )


def write_record(
    folder: Path, task: Task, found: Separated, scores: Scores, settings: ImageSettings, c: Any
) -> None:
    """Write images.json: what was mixed and how it came out, mixture by mixture."""
    from gensep.cli.records import command, commit, versions
    from gensep.runtime.files import write_atomically

    each = [
        {
            "places": places,
            "labels": labels,
            **{name: _db(v) for name, v in zip(Scores._fields, values, strict=True)},
        }
        for places, labels, *values in zip(
            task.chosen.places.T.tolist(), task.chosen.labels.T.tolist(), *scores, strict=True
        )
    ]
    record = {
        "priors": list(task.names),
        "psnr": {
            name: interval(values)._asdict()
            for name, values in zip(Scores._fields, scores, strict=True)
        },
        "forwards": found.forwards,
        "vjps": found.vjps,
        "compile_seconds": round(found.compile_seconds, 2),
        "sampling_seconds": round(found.run_seconds, 2),
        "residual": float(np.sqrt(np.mean(found.residual**2))),
        "mixtures": each,
        "settings": dataclasses.asdict(settings),
        "options": dataclasses.asdict(c),
        "command": command(c),
        "versions": versions(),
        "commit": commit(),
    }
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_atomically(folder / "images.json", text)


def draw(path: Path, task: Task, estimates: Estimates) -> None:
    """Draw mixtures, true sources and estimates."""
    from gensep.plots.images import plot_images

    true, n = task.chosen.truth, min(SHOWN, len(task.mixture))
    rows = {"mixture": task.mix.picture(task.mixture[:n])}
    several = bool(np.any(estimates.mean != estimates.sample))
    for title, one in (("one sample", estimates.sample), ("mean", estimates.mean)):
        best = np.stack(
            [
                one[list(best_order(one[:, i], true[:, i])), i] if task.shared else one[:, i]
                for i in range(n)
            ],
            1,
        )
        for k in range(len(true)):
            rows[f"source {k + 1}"] = true[k, :n]
            if title == "one sample" or several:
                rows[f"source {k + 1}, {title}"] = best[k]
    plot_images(path, {name: rows[name] for name in sorted(rows)})


def _bytes(images: np.ndarray) -> np.ndarray:
    """Turn model units into bytes."""
    return np.clip(np.rint(PIXEL_VALUES * images - 0.5), 0, PIXEL_VALUES - 1).astype(np.uint8)


def _db(value: float) -> float | None:
    """Round decibels; what is perfect or empty has none."""
    return round(float(value), 3) if np.isfinite(value) else None
