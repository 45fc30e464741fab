"""A test on images: mixtures of known images are separated, compared with the truth and written."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from basis import Prior
from gensep.cli.records import Json, write_record
from gensep.datasets.images import load_images
from gensep.evaluation.metrics import psnr
from gensep.evaluation.statistics import interval, markdown
from gensep.images.mixtures import MIXES, Chosen, Mix, choose
from gensep.images.separation import Separated, align, best_order, separate_images
from gensep.images.settings import ImageSettings
from gensep.plots.images import plot_images
from gensep.priors.files import load_prior
from gensep.representation.image import PIXEL_VALUES
from gensep.runtime.errors import UserError
from gensep.runtime.files import new_folder, save_arrays

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SHOWN = 10  # mixtures in the picture


class MixedImages(NamedTuple):
    """Mixtures of images with their true sources, and the priors to separate them with."""

    mix: Mix
    chosen: Chosen
    mixture: np.ndarray  # [n, height, width, channels], as the problem takes it
    names: tuple[str, ...]  # of the priors, one per source
    priors: tuple[Prior, ...]

    @property
    def shared(self) -> bool:
        """Whether all sources have one prior, so that their order is arbitrary."""
        return len(set(self.names)) == 1


class Estimates(NamedTuple):
    """Two estimates of the sources, each `[source, n, height, width, channels]`."""

    sample: np.ndarray  # one posterior sample
    mean: np.ndarray  # the mean of all samples, weighed by the priors


class Psnr(NamedTuple):
    """Peak signal-to-noise ratio of every mixture, dB."""

    mixture: np.ndarray  # of the unprocessed mixture in place of every source
    sample: np.ndarray
    mean: np.ndarray


class Results(NamedTuple):
    """What came out of the separation of mixed images."""

    found: Separated
    estimates: Estimates
    psnr: Psnr


class Choice(NamedTuple):
    """Which images are mixed, and how."""

    set: str  # name of a set of images
    part: str = "test"  # or "valid"
    data_dir: str | None = None  # folder with the files of the set
    mix: str = "average"  # a row of `gensep.images.mixtures.MIXES`
    split: bool = False  # see `choose`
    pairs: int = 1000  # number of mixtures
    seed: int = 0


def mix_images(priors: Sequence[str], choice: Choice) -> MixedImages:
    """Mix images, and load the priors of their sources: one for all, or one per source.

    Raises:
        UserError: for an unknown set or mix, or priors that do not fit.
    """
    name, mix = choice.set, choice.mix
    if mix not in MIXES:
        raise UserError(f"mix must be one of {', '.join(MIXES)}, not '{mix}'")
    how = MIXES[mix]
    if choice.split and how.sources == 1:
        raise UserError(f"--split takes the sources from different classes; --mix {mix} has one")
    images, labels = load_images(name, choice.part, choice.data_dir)
    if len(priors) not in (1, how.sources):
        raise UserError(
            f"expected one prior for all {how.sources} sources of --mix {mix} or one "
            f"for each, got {len(priors)}; name them after --priors"
        )
    loaded = [load_prior(p) for p in priors]
    for one in loaded:
        if one.form.shape(0) != images.shape[1:]:
            raise UserError(
                f"prior {one.name} is of {one.form.describe()}, the images of {name} are "
                f"{' x '.join(map(str, images.shape[1:]))}; give --priors a run of "
                f"gensep.train_ncsn --data {name}"
            )
    loaded = loaded * (how.sources // len(loaded))
    dealt = how.sources, choice.pairs, choice.seed
    chosen = choose(images, labels, *dealt, split=choice.split)
    names, each = tuple(p.name for p in loaded), tuple(p.prior for p in loaded)
    return MixedImages(how, chosen, how.observe(chosen.truth), names, each)


def separate_mixed(
    mixed: MixedImages,
    settings: ImageSettings,
    folder: Path,
    *,
    picture: bool = True,
    config: "DataclassInstance | None" = None,
) -> Results:
    """Separate mixtures, compare with the true sources, and write it all into a folder.

    images.json has every mixture's PSNR and `config`, options such as `gensep.basis_images.Config`;
    images.npz holds the estimates as bytes, images.png (with `picture`) the first mixtures.
    """
    shown = {"unit": "sample", "leave": False, "dynamic_ncols": True, "disable": None}
    total = len(mixed.mixture) * settings.samples
    with new_folder(folder):
        with tqdm(desc=f"{folder.name}: sampling", total=total, **shown) as bar:
            found = separate_images(mixed.mix, mixed.priors, mixed.mixture, settings, bar.update)
        estimates = estimate_sources(mixed, found)
        results = Results(found, estimates, measure(mixed, estimates))
        images = {"mean": _bytes(estimates.mean), "sample": _bytes(estimates.sample)}
        arrays = {"places": mixed.chosen.places, "labels": mixed.chosen.labels, **images}
        save_arrays(folder / "images.npz", arrays)
        facts = describe(mixed, results) | {"settings": dataclasses.asdict(settings)}
        write_record(folder / "images.json", config, facts)
        if picture:
            plot_estimates(folder / "images.png", mixed, estimates)
    return results


def estimate_sources(mixed: MixedImages, found: Separated) -> Estimates:
    """Return the first sample and the weighed mean of all, in the order of the likeliest one."""
    samples = align(found.samples, found.weights.argmax(0)) if mixed.shared else found.samples
    shape = (*found.weights.shape, *[1] * (samples.ndim - 3))
    weights = found.weights.reshape(shape)[:, None]
    return Estimates(samples[0], (weights * samples).sum(0))


def psnr_of(mixed: MixedImages, estimate: np.ndarray) -> np.ndarray:
    """Return the PSNR of an estimate `[source, n, ...]`, mean over sources, `[n]` dB.

    Estimates are clipped to the range of pixels. Where one prior serves all sources, the best of
    their orders counts.
    """
    clipped = np.clip(PIXEL_VALUES * estimate - 0.5, 0, PIXEL_VALUES - 1)
    true = PIXEL_VALUES * mixed.chosen.truth - 0.5
    pairs = zip(clipped.swapaxes(0, 1), true.swapaxes(0, 1), strict=True)
    score = partial(psnr, data_range=PIXEL_VALUES - 1, permute=mixed.shared)
    return np.array([score(e, t).mean() for e, t in pairs])


def measure(mixed: MixedImages, estimates: Estimates) -> Psnr:
    """Return the PSNR of the estimates, and of the mixture in their place."""
    unprocessed = mixed.mix.unprocessed(mixed.mixture)
    return Psnr(psnr_of(mixed, unprocessed), *(psnr_of(mixed, one) for one in estimates))


def psnr_table(results: Results) -> str:
    """Return the means with their intervals and costs as markdown."""
    found, psnr = results.found, results.psnr
    n, samples = len(psnr.mixture), len(found.samples)
    cost = f"{found.forwards} + {found.vjps}"
    one = f"{found.forwards // samples} + {found.vjps // samples}"
    seconds = found.run_seconds / n
    rows = [
        ("unprocessed mixture", interval(psnr.mixture), "0", "0"),
        ("one sample", interval(psnr.sample), one, f"{seconds / samples:.2f}"),
    ]
    if samples > 1:
        weighed = f"weighed mean of {samples} samples"
        rows.append((weighed, interval(psnr.mean), cost, f"{seconds:.2f}"))
    heads = ("estimate", f"PSNR dB, mean of {n}", "forwards + VJPs per source", "s per mixture")
    return markdown(heads, rows)


def describe(mixed: MixedImages, results: Results) -> Json:
    """Return what images.json says: what was mixed and how it came out, mixture by mixture."""
    found, psnr, chosen = results.found, results.psnr, mixed.chosen
    values = zip(chosen.places.T.tolist(), chosen.labels.T.tolist(), *psnr, strict=True)
    names = ("places", "labels", *Psnr._fields)
    mixtures = [
        dict(zip(names, (places, labels, *map(_db, each)), strict=True))
        for places, labels, *each in values
    ]
    return {
        "priors": list(mixed.names),
        "psnr": {name: interval(v)._asdict() for name, v in psnr._asdict().items()},
        "forwards": found.forwards,
        "vjps": found.vjps,
        "compile_seconds": round(found.compile_seconds, 2),
        "sampling_seconds": round(found.run_seconds, 2),
        "residual": float(np.sqrt(np.mean(found.residual**2))),
        "mixtures": mixtures,
    }


def plot_estimates(path: Path, mixed: MixedImages, estimates: Estimates) -> None:
    """Plot mixtures, true sources and estimates."""
    true, n = mixed.chosen.truth, min(SHOWN, len(mixed.mixture))
    rows = {"mixture": mixed.mix.picture(mixed.mixture[:n])}
    several = bool(np.any(estimates.mean != estimates.sample))
    for title, one in (("one sample", estimates.sample), ("mean", estimates.mean)):
        best = [
            one[list(best_order(one[:, i], true[:, i])), i] if mixed.shared else one[:, i]
            for i in range(n)
        ]
        for k, shown in enumerate(np.stack(best, 1)):
            rows[f"source {k + 1}"] = true[k, :n]
            if title == "one sample" or several:
                rows[f"source {k + 1}, {title}"] = shown
    plot_images(path, {name: rows[name] for name in sorted(rows)})


def _bytes(images: np.ndarray) -> np.ndarray:
    """Convert model units to pixels of a byte."""
    return np.clip(np.rint(PIXEL_VALUES * images - 0.5), 0, PIXEL_VALUES - 1).astype(np.uint8)


def _db(value: float) -> float | None:
    """Round decibels; None where they are not finite, as for a perfect or an empty image."""
    return round(float(value), 3) if np.isfinite(value) else None
