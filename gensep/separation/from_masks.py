"""Stems of a finished separation by another method, from its saved masks, without sampling."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gensep.audio.files import Shape
from gensep.audio.stems import StemWriter
from gensep.cli.records import Json
from gensep.datasets.separations import read_separation
from gensep.evaluation import reference as references
from gensep.inversion.mask_file import FILE, MaskFile, read_masks
from gensep.inversion.methods import METHODS, POWERS
from gensep.inversion.resynthesis import Options, invert_masks, invert_power
from gensep.runtime.errors import UserError


class Inversion(NamedTuple):
    """Stems on disk that a method made."""

    stems: list[Path]
    facts: Json  # for inversion.json: method, seconds, rate, channels, scores, ...

    @property
    def folder(self) -> Path:
        """Folder of the stems."""
        return self.stems[0].parent


def invert_separation(
    folder: Path,
    output: Path | None = None,
    method: str | None = None,
    iterations: int | None = None,
    powers: str | None = None,
    mixture: Path | None = None,
    reference: str | None = None,
    ext: str = "wav",
    subtype: str | None = None,
    *,
    residual: bool = False,
) -> Inversion:
    """Write the stems of a separation that kept its masks, by another method.

    Args:
        folder: that `gensep.basis` wrote with --save_masks.
        output: folder of the stems; by default one in `folder` with the name of the method.
        method: a name in METHODS; by default misi.
        iterations: in place of the method's own.
        powers: a name in POWERS, in place of the method's own.
        mixture: where the mixture is, if not where it was separated.
        reference: folder of true stems; with it the facts hold scores.
        ext: format of the stems.
        subtype: sample format of the stems.
        residual: write one more stem, which holds what the powers lack of the mixture's.

    Raises:
        UserError: if an option is out of range, a file is missing, or files do not fit together.
    """
    method = method or "misi"
    _check(method, iterations, powers)
    excerpt = read_separation(folder).mixture
    excerpt = excerpt._replace(path=mixture or excerpt.path)
    if not excerpt.path.is_file():
        raise UserError(
            f"the mixture of {folder} is no longer at {excerpt.path}; name it with --mixture"
        )
    content = read_masks(folder / FILE)
    if content.masks is None:
        raise UserError(f"{folder / FILE} holds no masks; give the file itself to hear its power")
    shape, names, form = excerpt.shape(), content.names, content.representation
    _check_length(content, shape, excerpt.path)
    if reference:
        references.check_references(excerpt, names, reference)
    options = Options(powers, iterations, residual=residual)
    stems = invert_masks(excerpt.blocks, shape.rate, content.masks, form, method, options)
    names = (*names, "residual") if residual else names
    writer = StemWriter(_paths(output or folder / method, names, ext), *shape, subtype)
    facts = {"mixture": str(excerpt.path), **_write(writer, stems, folder.name, method)}
    if reference:
        scored = writer.paths[: len(content.names)]
        facts["scores"] = references.score_stems(excerpt, scored, reference, form)
    return Inversion(writer.paths, facts)


def invert_power_file(
    path: Path,
    output: Path | None = None,
    method: str | None = None,
    iterations: int | None = None,
    seed: int = 0,
    ext: str = "wav",
    subtype: str | None = None,
) -> Inversion:
    """Write the sound of mel power, or of every source where the file has masks, by Griffin-Lim.

    Args:
        path: a mask file.
        output: folder of the stems; by default `path` without its suffix, and the method in it.
        method: fast_griffin_lim, which is the default, or griffin_lim.
        iterations: as `ext` and `subtype`, see `invert_separation`.
        seed: of the random phases that the method starts from.
        ext: format of the stems.
        subtype: sample format of the stems.

    Raises:
        UserError: if an option is out of range, the method needs a mixture, or the file is damaged.
    """
    method = method or "fast_griffin_lim"
    _check(method, iterations)
    how = METHODS[method]
    if how.finish != "griffin_lim":
        raise UserError(
            f"{path} comes without a mixture, which {method} needs; use griffin_lim or "
            "fast_griffin_lim, or give the folder"
        )
    content = read_masks(path)
    power = content.power[None] if content.masks is None else content.masks * content.power
    form = content.representation
    shape = Shape(form.sample_rate, 1, (power.shape[1] - 1) * form.hop_length)
    names = (path.stem,) if content.masks is None else content.names
    rounds = how.iterations if iterations is None else iterations
    stems = invert_power(power, form, rounds, how.momentum, seed)
    writer = StemWriter(
        _paths(output or path.with_suffix("") / method, names, ext), *shape, subtype
    )
    facts = {"power": str(path), **_write(writer, stems, path.name, method)}
    return Inversion(writer.paths, facts)


def _check(method: str, iterations: int | None, powers: str | None = None) -> None:
    """Refuse options that no method has, before anything is read."""
    for name, value, table in (("method", method, METHODS), ("powers", powers, POWERS)):
        if value is not None and value not in table:
            raise UserError(f"{name} must be one of {', '.join(table)}, not '{value}'")
    most = 20 if method == "em_wiener" else 10_000  # EM reads the whole file in every iteration
    if iterations is not None and not 0 <= iterations <= most:
        raise UserError(f"iterations must be 0 to {most}, not {iterations}")


def _check_length(content: MaskFile, shape: Shape, mixture: Path) -> None:
    """Refuse a mixture that is not as long as the masks."""
    form, seconds = content.representation, shape.samples / shape.rate
    frames = 1 + round(seconds * form.sample_rate) // form.hop_length
    if abs(frames - len(content.power)) > 1:
        raise UserError(
            f"{mixture} lasts {seconds:.2f} s, {frames} frames, its masks have "
            f"{len(content.power)}; name the mixture that was separated"
        )


def _paths(folder: Path, names: Sequence[str], ext: str) -> list[Path]:
    """Return the files of the stems."""
    return [folder / f"{name}.{ext.lstrip('.')}" for name in names]


def _write(writer: StemWriter, stems: Iterator[np.ndarray], name: str, method: str) -> Json:
    """Write stems as they are computed, and return what inversion.json says of any inversion."""
    began = time.perf_counter()
    shown: Json = {"desc": f"{name}: {method}", "unit": "sample", "unit_scale": True}
    shown |= {"leave": False, "dynamic_ncols": True, "disable": None}
    with tqdm(total=writer.samples, **shown) as bar, writer:
        for block in stems:
            for i, stem in enumerate(block):
                writer.write(i, stem)
            bar.update(block.shape[-1])
    return {
        "stems": [path.name for path in writer.paths],
        "method": method,
        "seconds": writer.samples / writer.rate,
        "rate": writer.rate,
        "channels": writer.channels,
        "inversion_seconds": round(time.perf_counter() - began, 2),
    }
