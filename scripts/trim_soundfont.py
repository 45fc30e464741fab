"""Write a smaller SF2 SoundFont that plays the chosen programs exactly like the whole one.

Samples that only other presets use are replaced by a short silence; everything else is kept.
Without OUTPUT the presets of the font are listed (bank, program, name).
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gensep.cli.config import parse
from gensep.cli.options import Positional
from gensep.runtime import errors
from gensep.runtime.errors import UserError

GAP = 46  # zero samples that the format requires after each sample
INSTRUMENT, SAMPLE = 41, 53  # generators that end a zone and name the instrument or sample it plays
ROM = 0x8000
RECORDS = {
    "phdr": "20sHHHIII",
    "pbag": "HH",
    "pgen": "HH",
    "inst": "20sH",
    "ibag": "HH",
    "igen": "HH",
    "shdr": "20sIIIIIBbHH",
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the command."""

    font: Positional[str]
    """SF2 file to read."""
    output: Positional[str] = ""
    """SF2 file to write; without it the presets are listed."""
    programs: tuple[int, ...] = ()
    """Programs to keep (0..127)."""
    banks: tuple[int, ...] = ()
    """Banks to keep; by default all."""


def read_chunks(data: bytes, start: int, end: int) -> list[tuple[str, int, int]]:
    """List the RIFF chunks between two offsets: (id, start of the content, its size)."""
    chunks = []
    while start + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, start)
        if start + 8 + size > end:
            raise UserError(f"the font ends inside its chunk {name!r}; download it again")
        chunks.append((name.decode("latin1"), start + 8, size))
        start += 8 + size + size % 2
    return chunks


def read_font(data: bytes) -> dict[str, dict[str, bytes]]:
    """Split an SF2 file into {list: {chunk: content}}, in the order of the file."""
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise UserError("the font is not an SF2 file: expected a RIFF file of kind sfbk")
    lists = {}
    for name, start, size in read_chunks(data, 12, 8 + struct.unpack_from("<I", data, 4)[0]):
        if name == "LIST":
            inner = read_chunks(data, start + 4, start + size)
            kind = data[start : start + 4].decode("latin1")
            lists[kind] = {n: data[s : s + z] for n, s, z in inner}
    if "smpl" not in lists.get("sdta", {}) or not set(RECORDS) <= set(lists.get("pdta", {})):
        raise UserError("the font lacks samples or presets; sf3 fonts must be unpacked to sf2")
    return lists


def records(font: dict, name: str) -> list[tuple]:
    """Return the records of a pdta chunk, including the terminal one."""
    return list(struct.iter_unpack("<" + RECORDS[name], font["pdta"][name]))


def presets(font: dict) -> list[tuple[int, int, str]]:
    """List (bank, program, name), sorted."""
    return sorted(
        (bank, program, _text(name)) for name, program, bank, *_ in records(font, "phdr")[:-1]
    )


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin1").strip()


def used_samples(font: dict, wanted) -> set[int]:
    """Return the samples (and stereo partners) of the presets with `wanted(bank, program)`."""
    instruments = _targets(
        records(font, "phdr"), 3, records(font, "pbag"), records(font, "pgen"), INSTRUMENT
    )
    samples = _targets(
        records(font, "inst"), 1, records(font, "ibag"), records(font, "igen"), SAMPLE
    )
    headers = records(font, "shdr")
    used: set[int] = set()
    for preset, plays in zip(records(font, "phdr"), instruments, strict=False):
        if wanted(preset[2], preset[1]):
            used.update(s for i in plays for s in samples[i])
    return used | {
        headers[s][8]
        for s in used
        if headers[s][9] in (2, 4, 8) and headers[s][8] < len(headers) - 1
    }


def _targets(heads, bag_field: int, bags, generators, kind: int) -> list[list[int]]:
    """Return the indices that the generators of `kind` name, for each preset or instrument."""
    out = []
    for head, following in zip(heads, heads[1:], strict=False):
        first, last = bags[head[bag_field]][0], bags[following[bag_field]][0]
        out.append([amount for code, amount in generators[first:last] if code == kind])
    return out


def trim(data: bytes, wanted) -> bytes:
    """Rewrite a font so that only the samples of the wanted presets remain."""
    font = read_font(data)
    used = used_samples(font, wanted)
    if not used:
        raise UserError("the font has none of the wanted presets; run without OUTPUT to list them")
    fields = {"smpl": 2}  # bytes per sample; sm24 holds the lower 8 bits of 24
    if len(font["sdta"].get("sm24", b"")) * 2 >= len(font["sdta"]["smpl"]):
        fields["sm24"] = 1
    wave = {k: np.frombuffer(font["sdta"][k], np.uint8) for k in fields}
    parts: dict[str, list] = {k: [np.zeros(2 * GAP * w, np.uint8)] for k, w in fields.items()}
    place, moved, headers = 2 * GAP, {}, []
    for i, header in enumerate(records(font, "shdr")):
        name, start, end, loop, loop_end, *rest = header
        if i not in used and not rest[-1] & ROM and end > start:
            start, end, loop, loop_end = 0, GAP, 8, 32  # the silence at the front
        elif i in used and not rest[-1] & ROM:
            if (start, end) not in moved:
                moved[start, end] = place
                for key, width in fields.items():
                    parts[key] += [
                        wave[key][start * width : end * width],
                        np.zeros(GAP * width, np.uint8),
                    ]
                place += end - start + GAP
            shift = moved[start, end] - start
            start, end, loop, loop_end = (v + shift for v in (start, end, loop, loop_end))
        headers.append(struct.pack("<" + RECORDS["shdr"], name, start, end, loop, loop_end, *rest))
    font["pdta"]["shdr"] = b"".join(headers)
    font["sdta"] = {k: np.concatenate(p).tobytes() for k, p in parts.items()}
    return write_font(font)


def write_font(font: dict[str, dict[str, bytes]]) -> bytes:
    """Return the bytes of an SF2 file with {list: {chunk: content}}."""
    body = b"sfbk" + b"".join(
        _chunk("LIST", kind.encode("latin1") + b"".join(_chunk(n, c) for n, c in chunks.items()))
        for kind, chunks in font.items()
    )
    return _chunk("RIFF", body)


def _chunk(name: str, content: bytes) -> bytes:
    head = name.encode("latin1") + struct.pack("<I", len(content))
    return head + content + b"\0" * (len(content) % 2)


def main(argv: list[str]) -> None:
    """Trim a font, or list its presets."""
    config = parse(Config, argv)
    try:
        data = Path(config.font).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {config.font}: {error.strerror}") from None

    def wanted(bank: int, program: int) -> bool:
        return (not config.programs or program in config.programs) and (
            not config.banks or bank in config.banks
        )

    for bank, program, name in presets(read_font(data)):
        if wanted(bank, program):
            print(f"{bank:4} {program:4}  {name}")
    if config.output:
        small = trim(data, wanted)
        Path(config.output).parent.mkdir(parents=True, exist_ok=True)
        partial = Path(f"{config.output}.part")
        partial.write_bytes(small)
        os.replace(partial, config.output)
        print(f"{len(data) / 1e6:.1f} MB -> {len(small) / 1e6:.1f} MB")


if __name__ == "__main__":
    errors.run(main)
