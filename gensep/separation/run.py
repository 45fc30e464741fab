"""The separation of a file: masks, stems, uncertainty, scores, record and pictures in a folder."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from gensep.audio.excerpt import Excerpt
from gensep.audio.stems import StemWriter
from gensep.cli.records import Json
from gensep.datasets.separations import write_separation
from gensep.evaluation import reference
from gensep.inversion import mask_file
from gensep.inversion.masking import apply_masks
from gensep.plots.spectrograms import plot_spectrograms, plot_trace
from gensep.representation.analysis import Analysis, analyse_excerpt
from gensep.representation.mel import Representation
from gensep.runtime.files import new_folder
from gensep.separation.sampling import Masks
from gensep.separation.separate import SourcePriors, find_masks
from gensep.separation.settings import Settings
from gensep.separation.uncertainty import write_uncertainty

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


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
    """Separate a file or a part of it into a folder.

    What cannot be written or compared is refused before the work; a run that fails leaves no stem,
    and stems of an earlier run as they were.

    Args:
        mixture: what is separated.
        sources: priors of the sources, see `gensep.separation.separate.assemble`.
        settings: of the sampler, see `gensep.separation.separate.make_settings`.
        folder: is made where needed.
        outputs: what is written.
        config: options for the record, such as `gensep.basis.Config`; without them it keeps
            `outputs` and the part of the file.

    Raises:
        UserError: if the mixture cannot be read, or priors, settings, outputs or references do not
            fit it.
    """
    with new_folder(folder):
        stems = tuple(folder / f"{name}.{outputs.ext.lstrip('.')}" for name in sources.names)
        writer = StemWriter(stems, *mixture.shape(), outputs.subtype)
        if outputs.reference:
            reference.check_references(mixture, sources.names, outputs.reference)
        with progress_bar(mixture.path.name) as progress:
            analysis = analyse_excerpt(mixture, sources.representation)
            masks = find_masks(
                analysis, sources, settings, progress, uncertainty=outputs.uncertainty
            )
        write_stems(writer, mixture, masks, sources.representation)
        if outputs.save_masks:
            write_masks(folder, sources, masks, analysis)
        facts = describe(mixture, stems, masks) | _beside(mixture, sources, stems, masks, outputs)
        facts["representation"] = dataclasses.asdict(sources.representation)
        facts["settings"] = dataclasses.asdict(settings)
        if config is None:
            part = {"start": mixture.start, "duration": mixture.duration}
            facts["options"] = part | dataclasses.asdict(outputs)
        write_separation(folder, config, facts)
        if outputs.picture:
            plot_stems(folder, mixture, stems, sources.representation, outputs.reference)
            plot_residuals(folder, masks, settings, sources.representation)
    return SeparatedFile(folder, stems, masks, facts)


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of the chains that are done; yield what `find_masks` calls with their number."""
    with tqdm(
        desc=f"{name}: sampling", unit="chain", leave=False, dynamic_ncols=True, disable=None
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def write_stems(
    writer: StemWriter, mixture: Excerpt, masks: Masks, representation: Representation
) -> None:
    """Filter the mixture by the masks and write the stems, block by block."""
    rate = mixture.shape().rate
    with writer:
        for stems in apply_masks(mixture.blocks(), rate, masks.masks, representation):
            for i, stem in enumerate(stems):
                writer.write(i, stem)


def write_masks(folder: Path, sources: SourcePriors, masks: Masks, mixture: Analysis) -> None:
    """Write masks.npz, from which `gensep.invert` makes stems in other ways."""
    content = mask_file.MaskFile(sources.names, masks.masks, mixture.power, sources.representation)
    mask_file.write_masks(folder / mask_file.FILE, content)


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
        "residual_db": round(masks.residual, 3),
        "residuals_db": [round(float(r), 3) for r in masks.residuals],
    }


def _beside(
    mixture: Excerpt,
    sources: SourcePriors,
    stems: tuple[Path, ...],
    masks: Masks,
    outputs: Outputs,
) -> Json:
    """Write the uncertainty and compare with references where that is asked for; for the record."""
    facts: Json = {}
    if masks.uncertainty is not None:
        folder = stems[0].parent
        facts["uncertainty"] = write_uncertainty(
            folder, sources.names, masks.uncertainty, sources.representation
        )
    if outputs.reference:
        facts["scores"] = reference.score_stems(
            mixture, stems, outputs.reference, sources.representation
        )
    return facts


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


def plot_residuals(
    folder: Path, masks: Masks, settings: Settings, representation: Representation
) -> None:
    """Plot the error of the mixing law at every noise level; silence was not sampled."""
    if len(masks.residuals):
        sigmas = settings.levels() * representation.span_db
        plot_trace(folder / "trace.png", sigmas, masks.residuals)
