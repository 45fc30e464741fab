"""The separation of a file: masks, stems, uncertainty, scores, record and pictures in a folder."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from gensep.audio.excerpt import Excerpt
from gensep.audio.stems import StemWriter
from gensep.cli.records import Json
from gensep.datasets.separations import write_separation, write_uncertainty
from gensep.evaluation import reference
from gensep.inversion import mask_file
from gensep.inversion.masking import apply_masks
from gensep.plots.spectrograms import plot_spectrograms, plot_trace, plot_uncertainty
from gensep.representation.analysis import analyse_excerpt
from gensep.representation.mel import Representation
from gensep.runtime.files import new_folder
from gensep.separation.collected import Masks
from gensep.separation.separate import SourcePriors, find_masks
from gensep.separation.settings import Settings
from gensep.separation.uncertainty import PROBABILITIES, Uncertainty

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SHARE = 0.8  # of the samples that lie within the intervals of uncertainty


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is written beside the record, and how."""

    ext: str = "wav"  # format of the stems
    subtype: str | None = None  # sample format; None: float in wav, 24 bits in flac
    reference: str | None = None  # folder of the true stems, named like the priors
    uncertainty: bool = False  # how far the posterior samples differ
    save_masks: bool = False
    picture: bool = True


class SeparatedFile(NamedTuple):
    """A file that was separated."""

    folder: Path
    stems: tuple[Path, ...]
    masks: Masks
    facts: Json  # what separation.json holds besides options, versions and commit


def separate_file(
    mixture: Excerpt,
    sources: SourcePriors,
    settings: Settings,
    folder: Path,
    outputs: Outputs = Outputs(),  # noqa: B008, frozen
    config: "DataclassInstance | None" = None,
) -> SeparatedFile:
    """Separate a file or a part of it into a folder, which is made where needed.

    What cannot be written or compared is refused before the work; a run that fails leaves no stem,
    and stems of an earlier run as they were.

    Args:
        mixture: what is separated.
        sources: see `gensep.separation.separate.assemble`.
        settings: see `gensep.separation.separate.make_settings`.
        folder: of the stems.
        outputs: what is written.
        config: options for the record, such as `gensep.basis.Config`; without them it keeps
            `outputs` and the part of the file.

    Raises:
        UserError: if the mixture cannot be read, or priors, settings, outputs or references do not
            fit it.
    """
    names, form = sources.names, sources.representation
    with new_folder(folder):
        stems = tuple(folder / f"{name}.{outputs.ext.lstrip('.')}" for name in names)
        writer = StemWriter(stems, *mixture.shape(), outputs.subtype)
        if outputs.reference:
            reference.check_references(mixture, names, outputs.reference)
        with progress_bar(mixture.path.name) as progress:
            analysis = analyse_excerpt(mixture, form)
            spread = outputs.uncertainty
            masks = find_masks(analysis, sources, settings, progress, uncertainty=spread)
        with writer:
            for block in apply_masks(mixture.blocks(), writer.rate, masks.masks, form):
                for i, stem in enumerate(block):
                    writer.write(i, stem)
        if outputs.save_masks:
            kept = mask_file.MaskFile(names, masks.masks, analysis.power, form)
            mask_file.write_masks(folder / mask_file.FILE, kept)
        facts = describe(mixture, stems, masks)
        if masks.uncertainty is not None:
            facts["uncertainty"] = record_uncertainty(folder, names, masks.uncertainty, form)
        if outputs.reference:
            facts["scores"] = reference.score_stems(mixture, stems, outputs.reference, form)
        facts["representation"] = dataclasses.asdict(form)
        facts["settings"] = dataclasses.asdict(settings)
        if config is None:
            part = {"start": mixture.start, "duration": mixture.duration}
            facts["options"] = part | dataclasses.asdict(outputs)
        write_separation(folder, config, facts)
        if outputs.picture:
            plot_stems(folder, mixture, stems, form, outputs.reference)
        if outputs.picture and len(masks.residuals):  # silence was not sampled
            plot_trace(folder / "trace.png", settings.levels() * form.span_db, masks.residuals)
    return SeparatedFile(folder, stems, masks, facts)


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of the chains that are done; yield what `find_masks` calls with their number."""
    shown = {"unit": "chain", "leave": False, "dynamic_ncols": True, "disable": None}
    with tqdm(desc=f"{name}: sampling", **shown) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def describe(mixture: Excerpt, stems: tuple[Path, ...], masks: Masks) -> Json:
    """Return what the record says of the mixture and its sampling."""
    rate, channels, samples = mixture.shape()
    seconds = samples / rate
    return {
        "mixture": str(mixture.path),
        "stems": [stem.name for stem in stems],
        "seconds": seconds,
        "rate": rate,
        "channels": channels,
        "compile_seconds": round(masks.compile_seconds, 2),
        "sampling_seconds": round(masks.run_seconds, 2),
        "sampling_seconds_per_second": round(masks.run_seconds / seconds, 4),
        "network_evaluations": masks.evaluations._asdict(),
        "residual_db": round(masks.residual, 3),
        "residuals_db": [round(float(r), 3) for r in masks.residuals],
    }


def plot_stems(
    folder: Path,
    mixture: Excerpt,
    stems: tuple[Path, ...],
    representation: Representation,
    true: str | None = None,
) -> None:
    """Plot mixture and stems, each above its reference in the folder `true`, on one scale."""
    shown = {"mixture": mixture}
    for stem in stems:
        shown[stem.stem] = Excerpt(stem)
        if true:
            shown[f"{stem.stem}, reference"] = reference.reference_of(mixture, true, stem.stem)
    panels = {name: analyse_excerpt(sound, representation).power for name, sound in shown.items()}
    plot_spectrograms(folder / "spectrograms.png", panels, representation)


def record_uncertainty(
    folder: Path, names: Sequence[str], found: Uncertainty, representation: Representation
) -> Json:
    """Write uncertainty.npz (see `gensep.datasets.separations`) and a picture.

    Returns:
        For separation.json, by source: the mean standard deviation of a bin in dB, and the central
        interval over the samples of the source's energy relative to the mixture's, in dB. With a
        judge also the deviation with its weights, the energy of the mean that it weights, in dB,
        the share of the variance between explanations (`Uncertainty.between`), and, for all sources
        together, the effective number of samples, mean over frames.
    """
    arrays = found.equal._asdict()
    if found.weighed:
        arrays |= {f"judged_{name}": values for name, values in found.judged._asdict().items()}
    write_uncertainty(folder, names, arrays, PROBABILITIES)
    panels = dict(zip(names, found.equal.sd_db, strict=True))
    plot_uncertainty(folder / "uncertainty.png", panels, representation)
    limits = np.quantile(found.energy_db, (0.5 - SHARE / 2, 0.5 + SHARE / 2), axis=0).T
    rows: dict[str, Json] = {}
    for i, name in enumerate(names):
        rows[name] = {
            "mean_sd_db": round(float(found.equal.sd_db[i].mean()), 3),
            "energy_db": [round(float(limit), 3) for limit in limits[i]],
        }
        if found.weighed:
            rows[name] |= {
                "judged_mean_sd_db": round(float(found.judged.sd_db[i].mean()), 3),
                "judged_energy_db": round(float(found.judged_energy_db[i]), 3),
                "between_explanations": round(float(found.between[i]), 4),
            }
    facts: Json = {"samples": len(found.energy_db), "level": SHARE, "sources": rows}
    if found.weighed:
        facts["effective_samples"] = round(float(found.effective.mean()), 2)
    return facts
