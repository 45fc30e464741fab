"""The separation of a file: stems, masks, uncertainty, scores, record and pictures in a folder."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from gensep.audio.excerpt import Excerpt
from gensep.audio.stems import StemWriter, subtype_for
from gensep.cli.options import StemChoice, StemFormat
from gensep.cli.records import Json
from gensep.datasets.separations import write_separation, write_uncertainty
from gensep.evaluation import reference
from gensep.inversion import mask_file
from gensep.plots.spectrograms import plot_spectrograms, plot_trace, plot_uncertainty
from gensep.representation.analysis import analyse_excerpt
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.runtime.files import new_folder
from gensep.separation.collected import Masks
from gensep.separation.method import Method, Separated
from gensep.separation.stems import Stems, choose_stems
from gensep.separation.uncertainty import PROBABILITIES, Uncertainty

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SHARE = 0.8  # of the samples that lie within the intervals of uncertainty


@dataclass(frozen=True, kw_only=True)
class Outputs(StemFormat, StemChoice):
    """What is written beside the record, and how."""

    reference: str | None = None  # folder of the true stems, named like the sources
    save_masks: bool = False
    picture: bool = True

    @classmethod
    def of(cls, config: "DataclassInstance") -> "Outputs":
        """Return what the options of a command say of the outputs."""
        options = (f.name for f in dataclasses.fields(cls))
        return cls(**{name: getattr(config, name) for name in options if hasattr(config, name)})


class SeparatedFile(NamedTuple):
    """A file that was separated."""

    folder: Path
    stems: tuple[Path, ...]
    masks: Masks | None
    facts: Json  # what separation.json holds besides options, versions and commit


def separate_file(
    mixture: Excerpt,
    method: Method,
    folder: Path,
    outputs: Outputs = Outputs(),  # noqa: B008, frozen
    config: "DataclassInstance | None" = None,
) -> SeparatedFile:
    """Separate a file or a part of it into a folder, which is made where needed.

    What cannot be written or compared is refused before the work; a run that fails leaves no stem,
    and stems of an earlier run as they were.

    Args:
        mixture: what is separated.
        method: `gensep.separation.separate.Posterior`, with priors, or
            `gensep.separation.by_network.ByNetwork`.
        folder: of the stems.
        outputs: what is written.
        config: options for the record, such as `gensep.basis.Config`; without them it keeps
            `outputs` and the part of the file.

    Raises:
        UserError: if the mixture cannot be read, or method, outputs or references do not fit it.
    """
    form, chosen = method.form, choose_stems(method.names, outputs)
    if outputs.save_masks and not method.masked:
        raise UserError("save_masks needs a method with masks of mel bands; leave it away")
    with new_folder(folder):
        stems = tuple(folder / f"{name}.{outputs.ext.lstrip('.')}" for name in chosen.names)
        subtype = subtype_for(mixture.path, outputs.ext, outputs.subtype)
        writer = StemWriter(stems, *mixture.shape(), subtype)
        compared: list[Path] = []
        if outputs.reference:
            compared = with_references(stems, chosen, outputs.reference)
            names = [stem.stem for stem in compared]
            reference.check_references(mixture, names, outputs.reference)
        with progress_bar(mixture.path.name) as progress:
            found = method.separate(mixture, progress)
            write_stems(writer, chosen, found.blocks, mixture)
        facts = describe(mixture, chosen, stems) | found.facts
        facts |= record_masks(folder, method, found, keep=outputs.save_masks)
        if outputs.reference:
            whole = not facts.get("partial", False)
            scored = mixture, compared, outputs.reference, form
            facts["scores"] = reference.score_stems(*scored, whole=whole)
        facts["representation"] = dataclasses.asdict(form)
        facts["settings"] = method.settings
        if config is None:
            part = {"start": mixture.start, "duration": mixture.duration}
            facts["options"] = part | dataclasses.asdict(outputs)
        write_separation(folder, config, facts)
        if outputs.picture:
            true = {s.stem: outputs.reference or "" for s in compared}
            plot_stems(folder, mixture, stems, form, true)
        if outputs.picture and found.masks and found.levels_db is not None:
            plot_trace(folder / "trace.png", found.levels_db, found.masks.residuals)
    return SeparatedFile(folder, stems, found.masks, facts)


def write_stems(
    writer: StemWriter, chosen: Stems, blocks: Iterable[np.ndarray], mixture: Excerpt
) -> None:
    """Write the chosen stems of blocks of sources `[source, channel, n]`, all or none."""
    mixed, rest = mixture.blocks(), np.zeros((writer.channels, 0), np.float32)
    with writer:
        for block in blocks:
            count = block.shape[-1]
            while chosen.of_mixture and rest.shape[1] < count:
                rest = np.concatenate([rest, next(mixed)], axis=1)
            for i, stem in enumerate(chosen.mix(block, rest[:, :count])):
                writer.write(i, stem)
            rest = rest[:, count:]


def with_references(stems: Sequence[Path], chosen: Stems, folder: str) -> list[Path]:
    """Return the stems that are compared with true ones in a folder.

    A source must have one; a sum of sources, or a rest of the mixture, may.

    Raises:
        UserError: if no stem has one.
    """
    found = [
        stem
        for stem in stems
        if stem.stem not in chosen.derived or reference.has_reference(folder, stem.stem)
    ]
    if not found:
        names = ", ".join(chosen.names)
        raise UserError(f"no reference of {names} in {folder}; leave --reference away")
    return found


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of what is done; yield what a method calls with it and how much there is."""
    shown = {"unit": "part", "leave": False, "dynamic_ncols": True, "disable": None}
    with tqdm(desc=f"{name}: separating", **shown) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def describe(mixture: Excerpt, chosen: Stems, stems: tuple[Path, ...]) -> Json:
    """Return what the record says of the mixture and its stems."""
    rate, channels, samples = mixture.shape()
    facts: Json = {
        "mixture": str(mixture.path),
        "stems": [stem.name for stem in stems],
        "seconds": samples / rate,
        "rate": rate,
        "channels": channels,
    }
    if chosen.derived:
        facts["derived"] = list(chosen.derived)  # stems that are no source
    if set(chosen.names) != set(chosen.sources) or len(chosen.sources) == 1:
        facts["partial"] = True  # the stems that have references need not be the whole mixture
    return facts


def record_masks(folder: Path, method: Method, found: Separated, *, keep: bool) -> Json:
    """Write the masks, if they are kept, and their uncertainty, if there is any; return facts."""
    if found.masks is None or found.power is None:
        return {}
    if keep:
        kept = mask_file.MaskFile(method.names, found.masks.masks, found.power, method.form)
        mask_file.write_masks(folder / mask_file.FILE, kept)
    if found.masks.uncertainty is None:
        return {}
    spread = found.masks.uncertainty
    return {"uncertainty": record_uncertainty(folder, method.names, spread, method.form)}


def plot_stems(
    folder: Path,
    mixture: Excerpt,
    stems: tuple[Path, ...],
    representation: Representation,
    true: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Plot mixture and stems, each above its reference in the folder `true[name]`, on one scale."""
    shown = {"mixture": mixture}
    for stem in stems:
        shown[stem.stem] = Excerpt(stem)
        if stem.stem in true:
            own = reference.reference_of(mixture, true[stem.stem], stem.stem)
            shown[f"{stem.stem}, reference"] = own
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
