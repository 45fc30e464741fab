"""A test on images: mixtures of known images are separated, compared with the truth and written."""

import dataclasses
from collections.abc import Sequence
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
from gensep.plots.examples import plot_examples
from gensep.priors.files import LoadedPrior, load_prior
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


def mix_images(
    name: str,
    priors: Sequence[str],
    *,
    part: str = "test",
    data_dir: str | None = None,
    mix: str = "average",
    split: bool = False,
    pairs: int = 1000,
    seed: int = 0,
) -> MixedImages:
    """Choose and mix images of a set and load the priors of their sources.

    Args:
        name: of the set of images.
        priors: run folders or files: one for all sources, or one per source.
        part: "test" or "valid".
        data_dir: folder with the files of the set.
        mix: a row of `gensep.images.mixtures.MIXES`.
        split: see `choose`.
        pairs: number of mixtures.
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
    mixture = how.observe(chosen.truth)
    names, each = tuple(p.name for p in loaded), tuple(p.prior for p in loaded)
    return MixedImages(how, chosen, mixture, names, each)


def _check_form(loaded: LoadedPrior, name: str, shape: tuple[int, ...]) -> None:
    if loaded.form.shape(0) != shape:
        raise UserError(
            f"prior {loaded.name} is of {loaded.form.describe()}, the images of {name} are "
            f"{' x '.join(map(str, shape))}; give --priors a run of gensep.train_ncsn "
            f"--data {name}"
        )


def separate_mixed(
    mixed: MixedImages,
    settings: ImageSettings,
    folder: Path,
    *,
    picture: bool = True,
    config: "DataclassInstance | None" = None,
) -> Results:
    """Separate mixtures, compare with the true sources, and write it all into a folder.

    images.json has every mixture's PSNR, images.npz the estimates as bytes, images.png the first
    mixtures.

    Args:
        mixed: what is separated.
        settings: of the sampler.
        folder: is made where needed.
        picture: write images.png.
        config: options for the record, such as `gensep.basis_images.Config`.
    """
    with new_folder(folder):
        bar = tqdm(
            total=len(mixed.mixture) * settings.samples,
            desc=f"{folder.name}: sampling",
            unit="sample",
            leave=False,
            dynamic_ncols=True,
            disable=None,
        )
        with bar:
            found = separate_images(mixed.mix, mixed.priors, mixed.mixture, settings, bar.update)
        estimates = estimate_sources(mixed, found)
        results = Results(found, estimates, measure(mixed, estimates))
        arrays = {
            "places": mixed.chosen.places,
            "labels": mixed.chosen.labels,
            "mean": _bytes(estimates.mean),
            "sample": _bytes(estimates.sample),
        }
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
    return np.array(
        [
            psnr(e, t, data_range=PIXEL_VALUES - 1, permute=mixed.shared).mean()
            for e, t in zip(clipped.swapaxes(0, 1), true.swapaxes(0, 1), strict=True)
        ]
    )


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
    mixtures = [
        {
            "places": places,
            "labels": labels,
            **{name: _db(v) for name, v in zip(Psnr._fields, values, strict=True)},
        }
        for places, labels, *values in zip(
            chosen.places.T.tolist(), chosen.labels.T.tolist(), *psnr, strict=True
        )
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
    plot_examples(path, {name: rows[name] for name in sorted(rows)}, "images")


def _bytes(images: np.ndarray) -> np.ndarray:
    """Convert model units to pixels of a byte."""
    return np.clip(np.rint(PIXEL_VALUES * images - 0.5), 0, PIXEL_VALUES - 1).astype(np.uint8)


def _db(value: float) -> float | None:
    """Round decibels; None where they are not finite, as for a perfect or an empty image."""
    return round(float(value), 3) if np.isfinite(value) else None
