"""Mel masks applied to a mixture at its own rate, to every channel, block by block.

The masks were found on a mono copy at the representation's rate. Here they are spread over the
bins of a transform at the rate of the file (bins above the mel bands copy the highest band) and
interpolated in time, so the file is never resampled and nothing above the bands is lost.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gensep.representation import Representation
from gensep.stft import frame, hann, overlap_add

CHUNK_FRAMES = 128
EDGE = 3  # hops of context on either side that the frames of a chunk reach into
HANN_SQUARES = 1.5  # sum of squared Hann windows at three quarters overlap


def native_n_fft(representation: Representation, rate: int) -> int:
    """Give a fast length near the representation's window in seconds, divisible by 4."""
    wanted = representation.n_fft * rate / representation.sample_rate
    lengths = [n for n in range(max(16, int(wanted * 0.9)) // 4 * 4, int(wanted * 1.1) + 20, 4)
               if _largest_factor(n) <= 7]
    return min(lengths, key=lambda n: abs(n - wanted))


def apply_masks(
    blocks: Iterable[np.ndarray], rate: int, masks: np.ndarray, representation: Representation
) -> Iterator[np.ndarray]:
    """Filter blocks `[channels, n]` of a mixture at `rate` by masks `[source, frame, mel]`.

    Yields float32 stems `[source, channels, n]`; they add up to the mixture as the masks do to 1,
    and have its length in all.
    """
    n_fft = native_n_fft(representation, rate)
    hop = n_fft // 4
    spread = jnp.asarray(representation.spread(rate, n_fft))
    frames_per_hop = hop / rate * representation.sample_rate / representation.hop_length
    reach, first, owed = (CHUNK_FRAMES + 2 * EDGE) * hop, 0, 0
    buffer: np.ndarray | None = None

    def chunk(piece: np.ndarray, first: int) -> np.ndarray:
        place = np.arange(first - 1, first + CHUNK_FRAMES + 2) * frames_per_hop
        return np.asarray(_filter(piece, _at(masks, place), spread, n_fft))

    for block in blocks:
        if buffer is None:
            buffer = np.zeros((len(block), EDGE * hop), np.float32)
        owed += block.shape[1]
        buffer = np.concatenate([buffer, block], 1)
        while buffer.shape[1] >= reach:
            yield chunk(buffer[:, :reach], first)
            owed -= CHUNK_FRAMES * hop
            first += CHUNK_FRAMES
            buffer = buffer[:, CHUNK_FRAMES * hop :]
    while owed > 0 and buffer is not None:
        piece = np.pad(buffer[:, :reach], ((0, 0), (0, max(0, reach - buffer.shape[1]))))
        yield chunk(piece, first)[..., :owed]
        owed -= CHUNK_FRAMES * hop
        first += CHUNK_FRAMES
        buffer = buffer[:, CHUNK_FRAMES * hop :]


@partial(jax.jit, static_argnames="n_fft")
def _filter(piece: jax.Array, masks: jax.Array, spread: jax.Array, n_fft: int) -> jax.Array:
    """Filter `[channels, (chunk + 2 EDGE) hops]` by `[source, chunk + 3, mel]`."""
    hop = n_fft // 4
    window = hann(n_fft).astype(np.float32)
    spectrum = jnp.fft.rfft(frame(piece, n_fft, hop) * window)
    gains = jnp.matmul(masks, spread, precision="highest")
    stems = jnp.fft.irfft(gains[:, None] * spectrum, n_fft) * window
    whole = overlap_add(stems, hop) / HANN_SQUARES
    return whole[..., EDGE * hop : -EDGE * hop]


def _at(masks: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Interpolate masks at fractional frames, the outermost ones held."""
    last = masks.shape[1] - 1
    place = np.clip(place, 0, last)
    low = np.minimum(place.astype(int), max(last - 1, 0))
    part = (place - low).astype(np.float32)[:, None]
    return masks[:, low] * (1 - part) + masks[:, np.minimum(low + 1, last)] * part


def _largest_factor(n: int) -> int:
    for factor in (2, 3, 5, 7):
        while n % factor == 0:
            n //= factor
    return n if n > 1 else 7
