"""An update of semi-supervised training in PyTorch, for scripts/benchmark_adversarial.py.

It needs torch and numpy only. FOLDER/first.npz holds waves and the weights of the separator. The
first line of output is a JSON object with terms of the loss of the first update; then every line of
input asks for one update, and is answered by a line with its seconds.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

FRAMES = 64


class Separator(nn.Module):
    """The U-Net of Stoller, Ewert and Dixon 2018 for `[batch, frame, bin]` of log magnitudes."""

    def __init__(self, sources: int, width: int, levels: int):
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        sizes = zip([1, *widths[:-1]], widths, strict=True)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3) for a, b in sizes)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in rising)
        self.joined = nn.ModuleList(nn.Conv2d(a, b, 3) for a, b in rising)
        self.heads = nn.Conv2d(width + 1, sources, 1)

    def forward(self, magnitude: torch.Tensor, ends: list[int]) -> torch.Tensor:
        """Return magnitudes `[batch, source, frame, bin]`; `ends` pads as F.pad does."""
        x = first = F.pad(torch.log1p(magnitude[..., :-1]), ends)[:, None]
        skipped = []
        for conv in self.down[:-1]:
            x = F.relu(conv(x))
            skipped.append(x)
            x = F.max_pool2d(x, 2)
        x = F.relu(self.down[-1](x))
        for up, conv in zip(self.up, self.joined, strict=True):
            x = up(x)
            x = F.relu(conv(torch.cat([centre(skipped.pop(), x.shape[2:]), x], 1)))
        x = self.heads(torch.cat([centre(first, x.shape[2:]), x], 1))
        x = centre(x, (magnitude.shape[1], magnitude.shape[2] - 1))
        return F.pad(torch.expm1(F.relu(x)), [0, 1])


def centre(x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """Return the centre of the last two axes."""
    (m, n), (a, b) = sizes, ((have - want) // 2 for have, want in zip(x.shape[2:], sizes))  # noqa: B905
    return x[:, :, a : a + m, b : b + n]


def make_critic(width: int) -> nn.Module:
    """Return the critic of 64 frames of 256 bins."""
    layers: list[nn.Module] = []
    channels = [1, *(width * 2**level for level in range(4))]
    for a, b in zip(channels[:-1], channels[1:], strict=True):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    for _ in range(2):
        conv = nn.Conv2d(channels[-1], channels[-1], (2, 4), (1, 2))
        layers += [nn.ZeroPad2d((1, 1, 0, 1)), conv, nn.LeakyReLU(0.2)]
    dense = nn.Linear(16 * channels[-1], 32)
    return nn.Sequential(
        *layers, nn.Flatten(), dense, nn.LeakyReLU(0.2), nn.Linear(32, 1, bias=False)
    )


def magnitudes(waves: torch.Tensor, options: dict[str, int]) -> torch.Tensor:
    """Return `[..., frame, bin]` of waves `[..., samples]`, padded with zeros."""
    n_fft, hop = options["n_fft"], options["hop_length"]
    half, samples = n_fft // 2, waves.shape[-1]
    past = (-(-samples // hop) + 1) * hop + half - samples
    flat = F.pad(waves.reshape(-1, samples), (half, past))
    window = torch.hann_window(n_fft)
    found = torch.stft(flat, n_fft, hop, window=window, center=False, return_complex=True).abs()
    return found.transpose(1, 2).reshape(*waves.shape[:-1], found.shape[2], found.shape[1])


def load_separator(arrays: dict[str, np.ndarray], options: dict[str, int]) -> Separator:
    """Return the separator with the weights `NAME/INDEX/{kernel,bias}` of the other side."""
    model = Separator(options["sources"], options["width"], options["blocks"])
    with torch.no_grad():
        for name, module in model.named_modules():
            if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                continue
            kernel = arrays[f"{name.replace('.', '/')}/kernel"]  # [height, width, in, out]
            if isinstance(module, nn.ConvTranspose2d):
                kernel = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
            else:
                kernel = kernel.transpose(3, 2, 0, 1)
            module.weight.copy_(torch.from_numpy(kernel.copy()))
            module.bias.copy_(torch.from_numpy(arrays[f"{name.replace('.', '/')}/bias"].copy()))
    return model


def make_update(folder: Path) -> Callable[[], dict[str, float]]:
    """Return a function that makes one update: critics, then separator."""
    with np.load(folder / "first.npz") as file:
        arrays = dict(file)
    options = json.loads(str(arrays.pop("options")))
    torch.manual_seed(0)
    torch.set_num_threads(options["threads"])
    paired, mixtures, solos = (torch.from_numpy(arrays[n]) for n in ("paired", "mixtures", "solos"))
    separator, ends = load_separator(arrays, options), options["ends"]
    critics = [make_critic(options["critic_width"]) for _ in range(options["sources"])]
    rule = torch.optim.Adam(separator.parameters(), options["rate"])
    rules = [torch.optim.Adam(c.parameters(), options["rate"], betas=(0.0, 0.9)) for c in critics]

    def separate(waves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mixture = magnitudes(waves, options).mean(1)
        return mixture, separator(mixture, ends)

    def seen(x: torch.Tensor) -> torch.Tensor:
        first = (x.shape[-2] - FRAMES) // 2
        return torch.log1p(x[..., first : first + FRAMES, :-1])

    def teach(k: int) -> None:
        with torch.no_grad():
            fakes = seen(separate(mixtures[:, k])[1])
            reals = seen(magnitudes(solos[:, k], options).mean(2))
        order = torch.randperm(len(fakes))
        for i, (critic, own) in enumerate(zip(critics, rules, strict=True)):
            real, fake = reals[:, i, None], fakes[order, i, None]
            share = torch.rand(len(real), 1, 1, 1)
            between = (share * real + (1 - share) * fake).requires_grad_()
            (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            excess = slope.flatten(1).norm(dim=1) - 1
            gap = critic(real).mean() - critic(fake).mean()
            own.zero_grad()
            (options["penalty"] * F.relu(excess).square().mean() - gap).backward()
            own.step()

    def update() -> dict[str, float]:
        for k in range(options["critic_steps"]):
            teach(k)
        both = magnitudes(paired, options).mean(2)
        mixture = magnitudes(paired.sum(1), options).mean(1)
        near = (torch.log1p(separator(mixture, ends)) - torch.log1p(both)).square().mean()
        mixture, estimates = separate(mixtures[:, -1])
        judged = -sum(c(seen(estimates[:, i : i + 1])).mean() for i, c in enumerate(critics))
        unequal = (mixture - estimates.sum(1)).square().mean()
        rule.zero_grad()
        (near + options["alpha"] * judged + options["beta"] * unequal).backward()
        rule.step()
        return {"paired": near.item(), "unequal": unequal.item()}

    counted = {"separator": separator, "critic": critics[0]}
    update.parameters = {n: sum(p.numel() for p in m.parameters()) for n, m in counted.items()}  # type: ignore[attr-defined]
    return update


def main() -> None:
    """Make one update, then one for every line of input."""
    update = make_update(Path(sys.argv[1]))
    first = update()
    about = {"torch": torch.__version__, "parameters": update.parameters}  # type: ignore[attr-defined]
    print(json.dumps({**first, **about}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        update()
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
