"""Mel masks applied to a mixture at its own rate, to every channel, block by block.

The masks were sampled on a mono copy at the rate of the representation. Here they are spread over
the bins of a transform at the rate of the file (bins above the mel bands copy the highest band) and
interpolated in time, so the file is never resampled and keeps its high frequencies.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gensep.representation.magnitude import Spectra
from gensep.representation.mel import Representation
from gensep.representation.stft import hann, overlap_add, stft

Blocks = Iterable[np.ndarray]  # a wave in parts `[channels, n]`
CHUNK_FRAMES = 128
EDGE = 3  # hops of context on either side of a chunk, which its frames overlap
HANN_SQUARES = 1.5  # sum of squared Hann windows at three quarters overlap


def native_n_fft(representation: Representation | Spectra, rate: int) -> int:
    """Return a fast FFT length near the window of the representation in seconds, divisible by 4."""
    wanted = representation.n_fft * rate / representation.sample_rate
    near = range(max(16, int(wanted * 0.9)) // 4 * 4, int(wanted * 1.1) + 20, 4)
    fast = [n for n in near if 210**30 % n == 0]  # products of the primes 2, 3, 5 and 7
    return min(fast, key=lambda n: abs(n - wanted))


class Chunk(NamedTuple):
    """A part of a file with the context that its frames overlap; all chunks have one shape."""

    piece: np.ndarray  # [channels, samples], zeros outside the file
    frames: np.ndarray  # int [frame], the indices of its whole frames in the centred transform
    own: np.ndarray  # bool [frame], True for frames that belong to this chunk alone
    real: int  # samples of the piece up to the end of the file
    keep: int  # samples of the result of `length` hops that lie within the file


def chunks(
    blocks: Blocks, n_fft: int, hop: int, length: int = CHUNK_FRAMES, ahead: int | None = None
) -> Iterator[Chunk]:
    """Cut a file given as blocks `[channels, n]` into chunks of `length` hops.

    Each has `n_fft / hop - 1` hops of context before it and `ahead` hops after it, by default as
    many: enough for every frame that overlaps the chunk.
    """
    edge = n_fft // hop - 1
    total = edge + length + (edge if ahead is None else ahead)
    first = owed = 0
    buffer: np.ndarray | None = None

    for block in chain(blocks, [None]):  # None: the file has ended
        if block is not None:
            owed += block.shape[1]
            past = np.zeros((len(block), edge * hop), np.float32) if buffer is None else buffer
            buffer = np.concatenate([past, block], 1)
        while buffer is not None and owed > 0 and (block is None or buffer.shape[1] >= total * hop):
            piece, last = buffer[:, : total * hop], owed <= length * hop
            frames = np.arange(total - edge) + first - edge + n_fft // (2 * hop)
            own = ((frames >= first) | (first == 0)) & ((frames < first + length) | last)
            whole = np.pad(piece, ((0, 0), (0, total * hop - piece.shape[1])))
            yield Chunk(whole, frames, own, piece.shape[1], min(owed, length * hop))
            owed, first = owed - length * hop, first + length
            buffer = buffer[:, length * hop :]


def apply_masks(
    blocks: Blocks, rate: int, masks: np.ndarray, representation: Representation
) -> Iterator[np.ndarray]:
    """Filter blocks `[channels, n]` of a mixture at `rate` by masks `[source, frame, mel]`.

    Yields float32 stems `[source, channels, n]` of its length in total; they add up to the mixture
    where the masks add up to 1.
    """
    n_fft = native_n_fft(representation, rate)
    spread = jnp.asarray(representation.spread(rate, n_fft))
    for chunk in chunks(blocks, n_fft, n_fft // 4):
        gains = masks_at(masks, chunk.frames, rate, n_fft // 4, representation)
        yield np.asarray(_filter(chunk.piece, gains, spread, n_fft))[..., : chunk.keep]


def masks_at(
    masks: np.ndarray, frames: np.ndarray, rate: int, hop: int, representation: Representation
) -> np.ndarray:
    """Interpolate masks `[source, frame, mel]` at frames of another transform of the same file.

    The first and the last mask are held beyond the ends.
    """
    last = masks.shape[1] - 1
    place = frames * (hop / rate * representation.sample_rate / representation.hop_length)
    place = np.clip(place, 0, last)
    low = np.minimum(place.astype(int), max(last - 1, 0))
    part = (place - low).astype(np.float32)[:, None]
    return masks[:, low] * (1 - part) + masks[:, np.minimum(low + 1, last)] * part


@partial(jax.jit, static_argnames="n_fft")
def _filter(piece: jax.Array, masks: jax.Array, spread: jax.Array, n_fft: int) -> jax.Array:
    """Filter `[channels, (chunk + 2 EDGE) hops]` by `[source, chunk + 3, mel]`."""
    hop = n_fft // 4
    window = hann(n_fft).astype(np.float32)[None, None, None]
    spectrum = stft(piece, n_fft, hop, center=False)
    gains = jnp.matmul(masks, spread, precision="highest")
    stems = jnp.fft.irfft(gains[:, None] * spectrum[None], n_fft) * window
    whole = overlap_add(stems, hop) / HANN_SQUARES
    return whole[..., EDGE * hop : -EDGE * hop]
