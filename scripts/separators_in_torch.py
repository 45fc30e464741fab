"""PyTorch modules of the layers of the convolutional separators, for `benchmark_separators.py`."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def transpose(conv: nn.Conv2d, y: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Apply the transpose of a convolution with its weights, to an output of this size."""
    rest = [
        n - ((m - 1) * s + k)
        for n, m, s, k in zip(size, y.shape[2:], conv.stride, conv.kernel_size, strict=True)
    ]
    return functional.conv_transpose2d(y, conv.weight, None, conv.stride, 0, rest)


def shares(outputs: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
    """Multiply ratio masks with the mixture."""
    raised = outputs + 1e-8
    return raised / raised.sum(1, keepdim=True) * mixture[:, None]


class Tied(nn.Module):
    """An autoencoder with two convolutions."""

    def __init__(self, name: str, bins: int, frames: int, planes: int, sources: int, sizes: Any):
        super().__init__()
        filters, hidden = sizes["filters"], sizes["hidden"]
        self.sources, self.scored = sources, name == "deepconvsep_scored"
        taps, stride, second = {
            "deepconvsep": (bins, 1, (frames // 2, 1)),
            "deepconvsep_ild": (bins, 1, (frames // 2, 1)),
            "deepconvsep_ikala": (30, 3, (frames // 3, 20)),
        }.get(name, (30, 4, (2 * frames // 3, 1)))
        self.conv1 = nn.Conv2d(planes, filters, (1, taps), (1, stride))
        self.conv2 = nn.Conv2d(filters, filters, second)
        shape = self.conv2(self.conv1(torch.zeros(1, planes, frames, bins))).shape[1:]
        self.enter = nn.Linear(shape.numel(), hidden)
        self.leave = nn.ModuleList(nn.Linear(hidden, shape.numel()) for _ in range(sources))
        self.bias = nn.Parameter(torch.zeros(sources, planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return estimates."""
        first = self.conv1(0.3 * x)
        second = self.conv2(first)
        h = torch.relu(self.enter(second.flatten(1)))
        h = torch.stack([torch.relu(leave(h)) for leave in self.leave], 1)
        y = transpose(self.conv2, h.reshape(-1, *second.shape[1:]), first.shape[2:])
        y = transpose(self.conv1, y, x.shape[2:])
        y = torch.relu(y.reshape(len(x), self.sources, *y.shape[1:]) + self.bias[..., None, None])
        if self.scored:
            return shares(y.sum(2, keepdim=True), x.sum(1, keepdim=True))
        return shares(y, x)


class Deep(nn.Module):
    """Six convolutions, one of a single tap, and the transposes where the encoder was active."""

    def __init__(self, planes: int, sources: int, filters: int):
        super().__init__()
        self.sources, layers, before = sources, [], planes
        for share, frames in zip((0.15, 0.25, 0.35, 0.5, 1, 1), (1, 1, 1, 1, 10, 10), strict=True):
            wide = round(share * filters)
            layers.append(nn.Conv2d(before, wide, (frames, 5), (1, 2)))
            before = wide
        self.layers = nn.ModuleList(layers)
        self.part = nn.Conv2d(filters, sources * filters, 1)
        self.bias = nn.Parameter(torch.zeros(sources, planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return estimates."""
        h, seen = 0.3 * x, []
        for layer in self.layers:
            size, h = h.shape[2:], torch.relu(layer(h))
            seen.append((size, h > 0))
        y = torch.relu(self.part(h))
        y = y.reshape(len(x), self.sources, -1, *y.shape[2:])
        for layer, (size, active) in zip(reversed(self.layers), reversed(seen), strict=True):
            y = transpose(layer, (y * active[:, None]).flatten(0, 1), size)
            y = y.reshape(len(x), self.sources, *y.shape[1:])
        y = torch.relu(y + self.bias[..., None, None])
        return shares(y.sum(2, keepdim=True), x.sum(1, keepdim=True))


class Untied(nn.Module):
    """The stereo network, with a decoder for each source."""

    def __init__(self, bins: int, frames: int, channels: int, sources: int, sizes: Any):
        super().__init__()
        filters, hidden = sizes["filters"], sizes["hidden"]
        taps, fewer = frames // 2, round(0.6 * filters)
        self.form = (fewer, frames - taps + 1, 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, filters, (1, bins)),
            nn.Conv2d(filters, fewer, (taps, 1)),
            nn.Flatten(),
            nn.Linear(fewer * self.form[1], hidden),
            nn.ReLU(),
        )
        self.decoders = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden, fewer * self.form[1]),
                nn.ReLU(),
                nn.Unflatten(1, self.form),
                nn.ConvTranspose2d(fewer, filters, (taps, 1)),
                nn.ConvTranspose2d(filters, channels, (1, bins)),
                nn.ReLU(),
            )
            for _ in range(sources)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return estimates."""
        h = self.encoder(x)
        return shares(torch.stack([decoder(h) for decoder in self.decoders], 1), x)


class Denoiser(nn.Module):
    """A convolution, a recurrent layer, and a transposed convolution."""

    def __init__(self, bins: int, channels: int):
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, (1, 8))
        self.over_time = nn.LSTM(bins - 7, bins - 7, batch_first=True)
        self.leave = nn.ConvTranspose2d(channels, channels, (1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return estimates."""
        h = self.enter(x)
        h = self.over_time(h.flatten(0, 1))[0].reshape(h.shape)
        return torch.relu(self.leave(h))[:, None]


def make(name: str, bins: int, frames: int, planes: int, sources: int, **sizes: int) -> nn.Module:
    """Build the module of a row of the table of networks."""
    if name == "vocal_denoiser":
        return Denoiser(bins, planes)
    if name == "stereo_convsep":
        return Untied(bins, frames, planes, sources, sizes)
    if name == "deepconvsep_1x1":
        return Deep(planes, sources, sizes["filters"])
    return Tied(name, bins, frames, planes, sources, sizes)
