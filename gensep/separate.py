"""Separate mixtures into sources, with one network that was trained on mixtures."""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gensep.cli import config
from gensep.cli.options import Positional, Range, SeparatorName, StemChoice, StemFormat
from gensep.runtime.errors import UserError, run

if TYPE_CHECKING:
    from gensep.separation.by_network import ByNetwork


@dataclass(frozen=True, kw_only=True)
class Config(StemChoice, StemFormat):
    """Options of gensep.separate."""

    model: Positional[SeparatorName | None] = None
    """Shipped separator, run folder of gensep.train_separator, or separator file."""
    mixtures: Positional[tuple[str, ...]] = ()
    """Audio files to separate, of any rate, number of channels and length."""
    output: str = "separated/{name}"
    """Folder of the stems; {name} is the name of the input, {folder} its folder."""
    subtype: str | None = "same"
    """Sample format, e.g. PCM_16; same is that of the mixture, where the file format has it. Else,
    and for mixtures that were coded with losses, it is float for wav and 24 bits for flac. Stems
    beyond full scale are clipped by integer formats."""
    niter: Annotated[int, Range(0)] = 0
    """Iterations of EM by which multichannel Wiener filters refine the stems; for networks that
    estimate spectra."""
    softmask: bool = False
    """Filter the mixture by the ratios of the estimates, so that the stems add up to it, instead
    of giving the estimates the phase of the mixture."""
    scores: str | None = None
    """Folder of scores SOURCE.txt or SOURCE_b.txt with lines onset,offset,NOTE, for networks that
    are informed by scores."""
    start: Annotated[float, Range(0)] = 0.0
    """Seconds to skip at the start of each mixture."""
    duration: float | None = None
    """Seconds of each mixture to separate; by default all."""
    reference: str | None = None
    """Folder of true stems, named like the sources; prints the SI-SDR of the stems, its gain over
    the mixture and that of the mel-mask oracle."""
    picture: bool = True
    """Plot spectrograms of the mixture and the stems."""
    save_masks: bool = False
    """Write masks.npz beside the stems, for gensep.invert; for networks that estimate masks of mel
    bands."""
    list_models: bool = False
    """List the shipped separators and exit."""


def main(argv: list[str]) -> None:
    """Separate every input; stop at the first that cannot be."""
    c = config.parse(Config, argv)
    if c.list_models:
        return print(list_models())
    if c.model is None or not c.mixtures:
        raise UserError(
            "expected a model and an audio file: python -m gensep.separate MODEL MIX.wav; see "
            "--help, and --list_models for the models that there are"
        )
    from gensep.audio.files import probe
    from gensep.runtime.files import output_folders
    from gensep.separation.by_network import by_network

    folders = output_folders(c.output, c.mixtures)
    for path in c.mixtures:
        probe(path)
    method = by_network(c.model, c.niter, c.scores, softmask=c.softmask, residual=c.residual)
    for path, folder in zip(c.mixtures, folders, strict=True):
        separate(path, folder, c, method)
    return None


def separate(path: str, folder: Path, c: Config, method: "ByNetwork") -> None:
    """Separate one mixture as the options say, and print how it went."""
    from gensep.audio.excerpt import Excerpt
    from gensep.evaluation.reference import reference_table
    from gensep.separation.run import Outputs, separate_file

    began = time.perf_counter()
    mixture = Excerpt(Path(path), c.start, c.duration)
    alone = dataclasses.replace(c, mixtures=(path,))
    done = separate_file(mixture, method, folder, Outputs.of(c), alone)
    seconds, taken = done.facts["seconds"], done.facts["separation_seconds"]
    print(
        f"{path}: {len(done.stems)} stems of {seconds:.1f} s in {folder}: separated in "
        f"{taken:.1f} s ({taken / seconds:.2f} s per second), "
        f"{time.perf_counter() - began:.1f} s in all",
        file=sys.stderr,
    )
    if c.reference:
        print(reference_table(done.facts["scores"]))


def list_models() -> str:
    """Return a line for each shipped separator."""
    from gensep.separators.files import load_separator, shipped_separators

    lines = []
    for name in shipped_separators():
        loaded = load_separator(name)
        loss, step = loaded.about.get("valid_loss", "?"), loaded.about.get("step", "?")
        kind, sources = loaded.settings["network"], ", ".join(loaded.sources)
        lines.append(f"{name:<16} {kind}: {sources}; validation loss {loss} at step {step}")
    return "\n".join(lines) or "no separators ship with this installation"


if __name__ == "__main__":
    run(main)
