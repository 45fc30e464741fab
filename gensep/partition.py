"""Say which songs train, validate and test a semi-supervised separator, in a file.

FOLDER holds songs with stems in a layout that gensep.evaluate reads too. OUTPUT is a JSON file of
paired songs, unpaired mixtures, unpaired solo recordings of every source, and songs for validation
and test; gensep.train_adversarial and gensep.train_separator train on it. It may be edited.

Presets: aas pairs the songs of a split Dev or train, validates on one half of the split for
testing, and cuts all sets without splits into unpaired, validation and test songs. share pairs a
share of the songs for training and uses the others unpaired. dssgan reads the folders
train_sup/SONG, train_unsup/unsup_{mix,drums,acc}, valid/SONG and test/SONG.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gensep.cli.config import parse
from gensep.cli.options import Fraction, Layout, Positional, choices
from gensep.runtime import errors
from gensep.runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of gensep.partition."""

    folders: Positional[tuple[str, ...]] = ()
    """Folders of songs, one per data set."""
    output: str = "partition.json"
    """File to write; {paired} and {seed} in it stand for the share and the seed."""
    preset: Annotated[str, choices("gensep.partitions.presets:PRESETS")] = "aas"
    """Rule by which songs are divided."""
    sources: tuple[str, ...] = ()
    """Sources; by default those of the preset: vocals and accompaniment for aas, drums and
    accompaniment for dssgan, all stems for share."""
    rest: str | None = None
    """Source that is the sum of all stems that are no other source, where a song has no stem of
    that name; by default accompaniment if that is a source."""
    rename: tuple[str, ...] = ("voice=vocals", "acc=accompaniment")
    """Stems that go by another name, as STEM=SOURCE."""
    missing: Annotated[str, choices("refuse", "silence")] = "refuse"
    """What to do with a song that lacks a source: refuse it, or take silence."""
    paired: tuple[Fraction, ...] = (0.5,)
    """Share of the songs for training that is paired, for the preset share; several make several
    files."""
    seed: tuple[int, ...] = (0,)
    """Seed of the order of the songs; several make several files."""
    disjoint: bool = True
    """Take unpaired mixtures and unpaired solos from different songs, not from the same."""
    layout: Layout = "auto"
    """How the folders are arranged."""


def main(argv: list[str]) -> None:
    """Write the files and print how many songs and recordings each part has."""
    c = parse(Config, argv)
    if not c.folders:
        raise UserError("expected folders of songs: python -m gensep.partition FOLDER; see --help")
    from gensep.evaluation.statistics import markdown
    from gensep.partitions.partition import write_partition
    from gensep.partitions.presets import PRESETS, Rules, Stems, make_partition
    from gensep.runtime.files import output_folder

    preset, renamed = PRESETS[c.preset], dict(_pair(text) for text in c.rename)
    if c.preset != "share" and c.paired != (0.5,):
        raise UserError(f"--paired is for the preset share, not {c.preset}; leave it out")
    sources = c.sources or preset.sources
    rest = c.rest or ("accompaniment" if "accompaniment" in sources else None)
    stems = Stems(sources, rest, renamed, c.missing == "silence")
    made = [(share, seed) for share in c.paired for seed in c.seed]
    paths = [output_folder(c.output, paired=share, seed=seed) for share, seed in made]
    if len(set(paths)) < len(made):
        raise UserError("several files need several names: give --output 'p{paired}_{seed}.json'")
    lines: list[tuple[object, ...]] = []
    for path, (share, seed) in zip(paths, made, strict=True):
        rules = Rules(seed, share, c.disjoint, c.layout)
        partition = make_partition(preset.divide([Path(f) for f in c.folders], rules), stems)
        write_partition(path, partition)
        lines.append((str(path), *partition.counts().values()))
    print(markdown(("file", *partition.counts()), lines))
    print(f"train with: gensep train_adversarial --partition {paths[0]}", file=sys.stderr)


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not old or not equals or not new:
        raise UserError(f"--rename expects STEM=SOURCE, not {text}")
    return old, new


if __name__ == "__main__":
    errors.run(main)
