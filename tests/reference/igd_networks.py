"""Networks, losses and E-step of IGD (Chen et al., AAAI 2022), written from the description, and MS-SSIM.

Imported by igd.py and by benches/pytorch/igd_step.py; needs torch only. Images are [B, 3, S, S] with S of 32 (local), 64, 128
or 256 (global). `w` is the width of encoder and critic, `d` that of the decoder.
The names of the state dicts are those of burn-ad, but for the running statistics and the shape of layer norms: see `exported`.
  Generator  encoder.{trunk, hidden} (absent where vectors of a frozen backbone are given), head, decoder.{input, first, blocks, norm, last}
  Critic     trunk.{first, blocks, last}, out; `first` of a decoder and `last` of a trunk exist for the global networks only
  a block    norm1, conv1, norm2, conv2, shortcut
"""

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, relu

HIDDEN, LATENT, GRID, LOCAL = 512, 128, 4, 32
SPAN = 4.7579  # of normalised pixels
RHO, LAMBDA = 0.15, 0.1
SIGMA, K1, K2 = 1.5, 0.01, 0.03
GLOBAL_WINDOW, GLOBAL_WEIGHTS = 11, (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
LOCAL_WINDOW, LOCAL_WEIGHTS = 3, (0.0516, 0.3295, 0.3463, 0.2726)
# Multiples of w behind each down-block, and of d behind each up-block; the first of them go in.
DOWN = {32: (1, 2, 4, 8), 64: (1, 2, 8), 128: (1, 2, 4, 8), 256: (1, 2, 4, 8, 8)}
UP = {32: (8, 4, 2, 1), 64: (8, 4, 1), 128: (8, 4, 2, 1), 256: (8, 8, 4, 2, 1)}
ADAM = dict(lr=1e-4, betas=(0.0, 0.9))
DECAY = 1e-6  # of the generator's weights


def doubled(x):
    return interpolate(x, scale_factor=2, mode="nearest")


class Block(nn.Module):
    """Pre-activation; "down" halves the grid with a mean, "up" doubles it by repetition. `norm(channels, side)` makes a norm."""

    def __init__(self, inputs, outputs, up, norm, side):
        super().__init__()
        middle = outputs if up else inputs
        self.up = up
        self.norm1 = norm(inputs, side)
        self.conv1 = nn.Conv2d(inputs, middle, 3, padding=1, bias=False)
        self.norm2 = norm(middle, 2 * side if up else side)
        self.conv2 = nn.Conv2d(middle, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        y = relu(self.norm1(x))
        if self.up:
            y = self.conv2(relu(self.norm2(self.conv1(doubled(y)))))
            return y + self.shortcut(doubled(x))
        y = avg_pool2d(self.conv2(relu(self.norm2(self.conv1(y)))), 2)
        return y + self.shortcut(avg_pool2d(x, 2))


def batch_norm(channels, _side):
    return nn.BatchNorm2d(channels)


def layer_norm(channels, side):
    return nn.LayerNorm([channels, side, side])


class Trunk(nn.Module):
    """Images to [B, 8 w, 4, 4]."""

    def __init__(self, side, width, norm):
        super().__init__()
        local = side == LOCAL
        self.first = nn.Conv2d(3, width, 3, padding=1) if local else nn.Conv2d(3, width, 5, stride=2, padding=2)
        widths = [width * factor for factor in DOWN[side]]
        grid = side if local else side // 2
        self.blocks = nn.ModuleList(Block(a, b, False, norm, grid >> i) for i, (a, b) in enumerate(zip(widths, widths[1:])))
        self.last = None if local else nn.Conv2d(widths[-1], widths[-1], 3, stride=2, padding=1)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x if self.last is None else self.last(x)


class Encoder(nn.Module):
    """Images to [B, 512]."""

    def __init__(self, side, width):
        super().__init__()
        self.trunk = Trunk(side, width, batch_norm)
        self.hidden = nn.Linear(GRID * GRID * 8 * width, HIDDEN)

    def forward(self, x):
        return self.hidden(self.trunk(x).flatten(1))


class Decoder(nn.Module):
    """[B, Z] to images."""

    def __init__(self, side, width, latent=LATENT):
        super().__init__()
        local = side == LOCAL
        deep = 8 * width
        self.input = nn.Linear(latent, GRID * GRID * deep)
        self.first = None if local else nn.Conv2d(deep, deep, 3, padding=1)
        widths = [width * factor for factor in UP[side]]
        grid = GRID if local else 2 * GRID
        self.blocks = nn.ModuleList(Block(a, b, True, batch_norm, grid << i) for i, (a, b) in enumerate(zip(widths, widths[1:])))
        self.norm = batch_norm(width, side)
        self.last = nn.Conv2d(width, 3, 3, padding=1) if local else nn.Conv2d(width, 3, 5, padding=2)

    def forward(self, z):
        x = self.input(z).unflatten(1, (-1, GRID, GRID))
        if self.first is not None:
            x = self.first(doubled(x))
        for block in self.blocks:
            x = block(x)
        x = relu(self.norm(x))
        return self.last(x if self.first is None else doubled(x))


class Generator(nn.Module):
    """With `features`, the width of a frozen backbone's vectors, it has no encoder, and takes those vectors for images."""

    def __init__(self, side, width, decoder_width, latent=LATENT, features=None):
        super().__init__()
        self.encoder = Encoder(side, width) if features is None else None
        self.head = nn.Linear(features or HIDDEN, latent)
        self.decoder = Decoder(side, decoder_width, latent)

    def encode(self, x):
        return self.head(x if self.encoder is None else self.encoder(x))


class Critic(nn.Module):
    """Images to [B]."""

    def __init__(self, side, width):
        super().__init__()
        self.local = side == LOCAL
        self.trunk = Trunk(side, width, layer_norm)
        self.out = nn.Linear(GRID * GRID * 8 * width, 1)

    def forward(self, x):
        y = self.out(self.trunk(x).flatten(1))[:, 0]
        return y.sigmoid() if self.local else y


def exported(module, prefix="", values=None):
    """The tensors of a module under the names and in the shapes of burn-ad; `values`, by PyTorch's names, replace its own.
    Weights and biases of layer norms: [C, H, W] -> [H * W * C], channels last."""
    layers = {name for name, part in module.named_modules() if isinstance(part, nn.LayerNorm)}
    found = {}
    for name, value in (module.state_dict() if values is None else values).items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.rpartition(".")[0] in layers:
            value = value.permute(1, 2, 0).reshape(-1)
        name = name.replace("running_mean", "running.mean").replace("running_var", "running.variance")
        found[prefix + name] = value.detach().clone().contiguous()
    return found


def window_of(size, sigma, like):
    at = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-at.square() / (2 * sigma * sigma))
    return (weights / weights.sum()).to(like)


def ssim_maps(x, y, window, span, sigma=SIGMA):
    """SSIM and its contrast-structure factor of one scale, [B, C, H - window + 1, W - window + 1]."""
    kernel, channels = window_of(window, sigma, x), x.shape[1]

    def mean(images):
        for shape in ((1, 1, window, 1), (1, 1, 1, window)):
            images = conv2d(images, kernel.reshape(shape).expand(channels, -1, -1, -1), groups=channels)
        return images

    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    of_x, of_y = mean(x), mean(y)
    variances = mean(x * x) - of_x * of_x + mean(y * y) - of_y * of_y
    structure = (2 * (mean(x * y) - of_x * of_y) + c2) / (variances + c2)
    return (2 * of_x * of_y + c1) / (of_x * of_x + of_y * of_y + c1) * structure, structure


def scales(x, y, window, count, span):
    """`ssim_maps` of `count` scales."""
    found = []
    for scale in range(count):
        if scale:
            padding = [side % 2 for side in x.shape[2:]]
            x, y = (avg_pool2d(images, 2, padding=padding) for images in (x, y))
        found.append(ssim_maps(x, y, window, span))
    return found


def terms(x, y, window, count, span):
    """What is raised to powers, before its ReLU: [scales, B, C]."""
    *others, (last, _) = scales(x, y, window, count, span)
    return torch.stack([m.mean((2, 3)) for m in [structure for _, structure in others] + [last]])


def ms_ssim(x, y, window, weights, span):
    """[B]. Where a term is not positive, value and gradient are 0."""
    found = terms(x, y, window, len(weights), span)
    positive = (found > 0).all(0)
    powers = torch.where(positive, found, 1).pow(found.new_tensor(weights)[:, None, None]).prod(0)
    return torch.where(positive, powers, 0).mean(1)


def ssim(x, y, window, span):
    """[B], of the first scale."""
    return ssim_maps(x, y, window, span)[0].mean((1, 2, 3))


def squared_distances(z, centre):
    return (z - centre).square().sum(1)


def gaussian(z, centre, scale):
    """L_h of each: [B]."""
    return 1 - torch.exp(-squared_distances(z, centre) / scale)


def reconstruction(x, found, window, weights, span=SPAN):
    """L_r of each: [B]."""
    absolute = (x - found).abs().mean((1, 2, 3)) / span
    return (1 - RHO) * (1 - ms_ssim(x, found, window, weights, span)) + RHO * absolute


def generated(generator, inputs, alpha):
    """z, x^ and x_a; the decoder runs twice, for x^ first."""
    z = generator.encode(inputs)
    found = generator.decoder(z)
    between = alpha[:, None] * z + (1 - alpha[:, None]) * z.flip(0)
    return z, found, generator.decoder(between)


def generator_losses(critic, x, z, found, between, centre, scale, window, weights, span=SPAN):
    """L_h, L_r and the regulariser, means over the batch; the whole is L_h + L_r + 0.1 regulariser."""
    return (gaussian(z, centre, scale).mean(), reconstruction(x, found, window, weights, span).mean(),
            critic(between).square().mean())


def critic_losses(critic, x, found, between, alpha, zeta):
    """Of interpolated and of real images; the whole is their sum."""
    found, between = found.detach(), between.detach()
    weight = zeta[:, None, None, None]
    return (critic(between) - alpha).square().mean(), critic(weight * x + (1 - weight) * found).square().mean()


def optimisers(generator, critic):
    return torch.optim.Adam(generator.parameters(), weight_decay=DECAY, **ADAM), torch.optim.Adam(critic.parameters(), **ADAM)


def step(generator, critic, of_generator, of_critic, inputs, x, alpha, zeta, centre, scale, window, weights, span=SPAN):
    """Both steps; `inputs` are x, or the vectors of a frozen backbone. Gives the losses: (L_h, L_r, regulariser), (interpolated, real)."""
    z, found, between = generated(generator, inputs, alpha)
    critic.requires_grad_(False)
    losses = generator_losses(critic, x, z, found, between, centre, scale, window, weights, span)
    of_generator.zero_grad()
    (losses[0] + losses[1] + LAMBDA * losses[2]).backward()
    of_generator.step()
    critic.requires_grad_(True)
    of_its_own = critic_losses(critic, x, found, between, alpha, zeta)
    of_critic.zero_grad()
    sum(of_its_own).backward()
    of_critic.step()
    return [loss.detach() for loss in losses], [loss.detach() for loss in of_its_own]


def moved_away(centre, least=0.1):
    """Components closer to 0 than `least` become +-least, with their sign; 0 and -0 become +least."""
    return torch.where(centre.abs() < least, torch.where(centre < 0, -least * torch.ones_like(centre), least), centre)


def e_step(batches):
    """Centre [Z] and squared scale of the latents of all normal images, given in batches [B, Z] made in eval mode."""
    centre = moved_away(torch.cat(batches).mean(0))
    return centre, torch.stack([squared_distances(z, centre).mean().clamp_min(1) for z in batches]).mean()
