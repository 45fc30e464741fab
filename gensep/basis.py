"""Separate mixtures with generative priors: one wav a source.

With --images, pairs of test images are mixed, separated and scored instead: images.json (every
mixture's PSNR), images.npz (the estimates), images.png.
"""

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from gensep.cli import config
from gensep.cli.options import IMAGE_SETS, Positional, PriorName, StemFormat, choices
from gensep.runtime.errors import UserError, run

AUDIO_ONLY = (
    "mixtures",
    "uncertainty",
    "window",
    "overlap",
    "start",
    "duration",
    "ext",
    "subtype",
    "reference",
    "save_masks",
)
IMAGES_ONLY = ("data_dir", "pairs", "mix", "split", "part", "judge")


@dataclass(frozen=True, kw_only=True)
class Config(StemFormat):
    """Options of gensep.basis."""

    mixtures: Positional[tuple[str, ...]] = ()
    """Audio files to separate."""
    priors: tuple[PriorName, ...] = ("piano", "violin")
    """One prior per source, 1 to 8: shipped names, run folders or prior files; may repeat."""
    output: str = "separated/{name}"
    """Folder of the stems; {name} is the name of the input, {folder} its folder."""
    preset: Annotated[str, choices("gensep.separation.settings:PRESETS")] = "default"
    """Trade-off between speed and quality."""
    sampler: Annotated[str | None, choices("gensep.separation.samplers:SAMPLERS")] = None
    """Posterior sampler, instead of that of the preset."""
    steps: int | None = None
    """Number of noise levels, instead of that of the preset, which grows with the sources."""
    samples: int | None = None
    """Number of posterior samples to average, instead of that of the preset."""
    constraint: Literal["soft", "hard"] = "soft"
    """Use hard to make the sources satisfy the mixing law exactly at every noise level."""
    uncertainty: bool = False
    """Write the spread of the posterior samples to uncertainty.npz and .png, and energy intervals
    to separation.json. It is only as reliable as the sampler, see docs/samplers.md."""
    seed: int = 0
    """Seed of the sampler."""
    window: int | None = None
    """Number of frames (of 32 ms) that a prior sees at once."""
    overlap: float | None = None
    """Share of a window that overlaps the next one."""
    start: float = 0.0
    """Seconds to skip at the start of each mixture."""
    duration: float | None = None
    """Seconds of each mixture to separate; by default all."""
    reference: str | None = None
    """Folder of true stems, named like the priors; prints the SI-SDR of the stems, its gain over
    the mixture and that of the mel-mask oracle."""
    picture: bool = True
    """Plot spectrograms of the mixture and the stems."""
    save_masks: bool = False
    """Write masks.npz beside the stems, for gensep.invert."""
    images: Annotated[str | None, choices(IMAGE_SETS)] = None
    """Mix and separate images of this set instead of audio, with one prior for all sources or one
    per source."""
    data_dir: str | None = None
    """Folder with the files of the set of images."""
    pairs: int = 1000
    """Number of mixtures of images."""
    mix: Annotated[str, choices("gensep.images.mixtures:MIXES")] = "average"
    """How images are mixed: the average or sum of two, or the grey version of one."""
    split: bool = False
    """Take the first image from the first half of the classes and the second from the other."""
    part: Literal["test", "valid"] = "test"
    """Split of the set that the images come from."""
    judge: Annotated[str, choices("gensep.images.settings:JUDGES")] = "denoising"
    """How posterior samples of images are weighted: by denoising error, or by exact likelihood
    (flows only)."""
    list_priors: bool = False
    """List the shipped priors and exit."""


def main(argv: list[str]) -> None:
    """Separate every input; stop at the first that cannot be."""
    c = config.parse(Config, argv)
    if c.list_priors:
        return print(list_priors())
    check_kind(c)
    changed = {
        name: getattr(c, name)
        for name in ("sampler", "steps", "samples", "window", "overlap")
        if getattr(c, name) is not None
    }
    changed |= {"seed": c.seed, "constraint": c.constraint}
    if c.images:
        from gensep.images.run import run_images

        return run_images(c, {**changed, "judge": c.judge})
    if not c.mixtures:
        raise UserError(
            "expected an audio file: python -m gensep.basis MIX.wav "
            "[--priors piano violin]; see --help"
        )
    from gensep.audio.files import probe
    from gensep.runtime.files import new_folder
    from gensep.separation.separate import assemble, make_settings

    settings = make_settings(c.preset, changed, len(c.priors))
    jobs = [(path, output_folder(c.output, path)) for path in c.mixtures]
    folders = [folder for _, folder in jobs]
    if len(set(folders)) < len(folders):
        raise UserError(
            f"several inputs would be written to {max(folders, key=folders.count)}; "
            "put {name} or {folder} into --output"
        )
    for path, _ in jobs:
        probe(path)
    team = assemble(c.priors)
    for path, folder in jobs:
        with new_folder(folder):
            separate_file(path, folder, c, team, settings)
    return None


def check_kind(c: Config) -> None:
    """Refuse options of audio beside --images, and options of images without it."""
    if c.pairs < 1:
        raise UserError(f"pairs must be at least 1, not {c.pairs}")
    kind, wrong = ("audio", AUDIO_ONLY) if c.images else ("images", IMAGES_ONLY)
    defaults = Config()
    for name in wrong:
        if getattr(c, name) != getattr(defaults, name):
            shown = name.upper() if name == "mixtures" else f"--{name}"
            raise UserError(
                f"{shown} is for {kind}; "
                + ("leave it out beside --images" if c.images else "name a set after --images")
            )


def list_priors() -> str:
    """Give a line for each shipped prior."""
    from gensep.priors.files import load_prior, shipped_names

    lines = []
    for name in shipped_names():
        about = load_prior(name).header["about"]
        lines.append(
            f"{name:<12} validation loss {about.get('valid_loss', '?')} at step "
            f"{about.get('step', '?')}"
        )
    return "\n".join(lines) or "no priors ship with this installation"


def output_folder(template: str, path: str) -> Path:
    """Fill in {name} and {folder} of a folder template."""
    try:
        return Path(template.format(name=Path(path).stem, folder=Path(path).parent))
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"--output knows {{name}} and {{folder}}, not what is in '{template}'"
        ) from None


def separate_file(path: str, folder: Path, c: Config, team: Any, settings: Any) -> None:
    """Write the stems, the record and the picture of one mixture."""
    from tqdm import tqdm

    from gensep.audio.files import mid_stream, probe, read_blocks
    from gensep.audio.stems import StemWriter
    from gensep.cli.records import command
    from gensep.inversion.masking import apply_masks
    from gensep.representation.analysis import analyse
    from gensep.separation.separate import masks_of

    info = probe(path)
    samples = min(
        info.samples - round(c.start * info.rate), round((c.duration or 1e12) * info.rate)
    )
    targets = [folder / f"{name}.{c.ext.lstrip('.')}" for name in team.names]
    # what cannot be written or compared is refused before the work
    stem_writer = StemWriter(targets, info.rate, info.channels, samples, c.subtype)
    if c.reference:
        from gensep.audio.excerpt import Excerpt
        from gensep.evaluation.reference import check

        check(Excerpt(Path(path), c.start, c.duration), team.names, c.reference)
    began = time.perf_counter()
    with tqdm(
        desc=f"{Path(path).name}: sampling",
        unit="chain",
        leave=False,
        dynamic_ncols=True,
        disable=None,
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        mid = mid_stream(
            read_blocks(path, c.start, c.duration), info.rate, team.representation.sample_rate
        )
        mixture = analyse(mid, team.representation)
        found = masks_of(mixture, team, settings, progress, uncertainty=c.uncertainty)
    blocks = read_blocks(path, c.start, c.duration)
    with stem_writer as writer:
        for stems in apply_masks(blocks, info.rate, found.masks, team.representation):
            for i, stem in enumerate(stems):
                writer.write(i, stem)
    if c.save_masks:
        from gensep.inversion.mask_file import FILE, MaskFile, write_masks

        write_masks(
            folder / FILE, MaskFile(team.names, found.masks, mixture.power, team.representation)
        )
    seconds = samples / info.rate
    record: dict[str, Any] = {
        "mixture": str(path),
        "stems": [t.name for t in targets],
        "seconds": seconds,
        "rate": info.rate,
        "channels": info.channels,
        "compile_seconds": round(found.compile_seconds, 2),
        "sampling_seconds": round(found.run_seconds, 2),
        "sampling_seconds_per_second": round(found.run_seconds / seconds, 4),
        "residual_db": round(found.residual, 3),
        "residuals_db": [round(float(r), 3) for r in found.residuals],
    }
    if found.uncertainty is not None:
        from gensep.separation.uncertainty import write_uncertainty

        record["uncertainty"] = write_uncertainty(
            folder, team.names, found.uncertainty, team.representation
        )
    if c.reference:
        from gensep.evaluation.reference import score

        record["scores"] = score(
            Excerpt(Path(path), c.start, c.duration), targets, c.reference, team.representation
        )
    record["representation"] = dataclasses.asdict(team.representation)
    record["command"] = command(dataclasses.replace(c, mixtures=(str(path),)))
    write_record(folder, record, c, settings)
    if c.picture:
        draw(path, targets, folder, team, c)
        if len(found.residuals):
            draw_trace(folder, found.residuals, team, settings)
    print(
        f"{path}: {len(targets)} stems of {seconds:.1f} s in {folder}: sampled in "
        f"{found.run_seconds:.1f} s ({found.run_seconds / seconds:.2f} s a second), compiled in "
        f"{found.compile_seconds:.1f} s, {time.perf_counter() - began:.1f} s in all",
        file=sys.stderr,
    )
    if c.reference:
        from gensep.evaluation.reference import table

        print(table(record["scores"]))


def write_record(folder: Path, record: dict[str, Any], c: Config, settings: Any) -> None:
    """Write separation.json: what was done, with what, and how it came out."""
    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    record = {
        **record,
        "settings": dataclasses.asdict(settings),
        "options": dataclasses.asdict(c),
        "versions": versions(),
        "commit": commit(),
    }
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_atomically(folder / "separation.json", text)


def draw(path: str, targets: list[Path], folder: Path, team: Any, c: Config) -> None:
    """Draw mixture and stems, each above its reference where there is one, on one scale."""
    from gensep.audio.files import mid_stream, probe, read_blocks
    from gensep.plots.spectrograms import plot_spectrograms
    from gensep.representation.analysis import analyse

    def power(file: Any, start: float, duration: float | None) -> Any:
        rate = probe(file).rate
        mid = mid_stream(read_blocks(file, start, duration), rate, team.representation.sample_rate)
        return analyse(mid, team.representation).power

    panels = {"mixture": power(path, c.start, c.duration)}
    for target in targets:
        panels[target.stem] = power(target, 0.0, None)
        if c.reference:
            from gensep.evaluation.reference import find

            true = find(c.reference, target.stem)
            panels[f"{target.stem}, reference"] = power(true, c.start, c.duration)
    plot_spectrograms(folder / "spectrograms.png", panels, team.representation)


def draw_trace(folder: Path, residuals: Any, team: Any, settings: Any) -> None:
    """Draw how the mixing law was met at every noise level."""
    from gensep.plots.spectrograms import plot_trace

    sigmas = settings.levels()
    plot_trace(folder / "trace.png", sigmas * team.representation.span_db, residuals)


if __name__ == "__main__":
    run(main)
