"""Training steps of IGD: outputs, losses, gradients and what two steps leave. Written by igd.py, which describes the files."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from igd_networks import (ADAM, DECAY, GLOBAL_WEIGHTS, LAMBDA, LOCAL, LOCAL_WEIGHTS, RHO, SPAN, Critic, Generator, critic_losses, e_step,
                          exported, generated, generator_losses, ms_ssim, optimisers, reconstruction, squared_distances, step, terms)
from igd_small import drawn, flat, picture, rounded, samples, single

WINDOW = 3
PLANS = {"local": dict(side=32, width=3, decoder_width=4), "global": dict(side=64, width=2, decoder_width=3)}
BATCH, LATENT, FEATURES = 4, 8, 16
MARGIN = 1e-4  # of everything a ReLU or an absolute value is taken of, by its standard deviation
LONG = 65_536  # tensors with more values are not stored: initially filled, later their first rows
ROWS = 8
POWER, EPOCHS, AT = 0.9, 256, (0, 64)
STRATEGIES = ("mse", "rec", "rec-gac", "dsvdd", "dsvdd-rec")


@dataclass
class Setting:
    """Networks with their initial tensors, and what they are given."""

    weights: tuple  # of MS-SSIM
    generator: Generator
    critic: Critic
    frozen: Generator  # its decoder has the same tensors
    x: torch.Tensor
    vectors: torch.Tensor
    alphas: list
    zetas: list
    centre: torch.Tensor = None
    scale: float = None

    def to(self, dtype):
        """A copy."""
        def cast(value):
            if isinstance(value, list):
                return [cast(v) for v in value]
            return deepcopy(value).to(dtype) if isinstance(value, (torch.Tensor, nn.Module)) else value

        return Setting(*(cast(value) for value in vars(self).values()))

    def images(self, number):
        """Of step `number`."""
        return self.x if number == 0 else self.x.flip(3)

    def loss_facts(self):
        return self.centre, self.scale, WINDOW, self.weights

    def passes(self):
        """All that is rectified in the first steps: of the trained encoder, and with the frozen one."""
        for generator, inputs in ((self.generator, self.x), (self.frozen, self.vectors)):
            _, found, between = generated(generator, inputs, self.alphas[0])
            critic_losses(self.critic, self.x, found, between, self.alphas[0], self.zetas[0])


def initial(name, side, width, decoder_width):
    """Networks that reconstruct a little: MS-SSIM must not be 0. Fitted to both batches after a random start."""
    torch.manual_seed(side)
    generator = Generator(side, width, decoder_width, LATENT).double()
    critic, frozen = Critic(side, width).double(), Generator(side, width, decoder_width, LATENT, FEATURES).double()
    for network in (generator, critic):
        for key, part in network.named_modules():
            if isinstance(part, (nn.BatchNorm2d, nn.LayerNorm)):
                part.weight.data = 0.5 + drawn(f"igd.{key}.weight", *part.weight.shape)
                part.bias.data = 0.6 * drawn(f"igd.{key}.bias", *part.bias.shape) - 0.3
    hidden = generator.encoder.hidden.weight
    hidden.data = (2 * drawn(f"igd.{name}.hidden", *hidden.shape) - 1) / 16
    setting = Setting(LOCAL_WEIGHTS if side == LOCAL else GLOBAL_WEIGHTS, generator, critic, frozen,
                      single(picture(f"igd.{name}.x", BATCH, 3, side, side)), None,
                      [single(drawn(f"igd.{name}.alpha.{i}", BATCH) / 2) for i in range(2)],
                      [drawn(f"igd.{name}.zeta.{i}", BATCH) for i in range(2)])
    optimiser = torch.optim.Adam([p for p in generator.parameters() if p is not hidden], lr=3e-3)
    for i in range(400):
        x = setting.images(i % 2)
        found = generator.decoder(generator.encode(x))
        loss = (x - found).square().mean() + reconstruction(x, found, WINDOW, setting.weights).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"{name}: fitted to {loss.item():.3f}", flush=True)
    # Vectors whose latents are about those of the images.
    with torch.no_grad():
        z = generator.encode(setting.x) + 0.1 * drawn(f"igd.{name}.latent", BATCH, LATENT)
        head = frozen.head
        other = drawn(f"igd.{name}.vectors", BATCH, FEATURES)
        setting.vectors = single(other + (z - head(other)) @ torch.linalg.pinv(head.weight).T)
    return setting


def away_from_kinks(setting):
    """Moves biases of norms, and of the last convolution, until nothing is close to a kink in any of the first passes."""
    frozen, generator = setting.frozen, setting.generator
    frozen.decoder = generator.decoder
    norms = [m for network in (generator, setting.critic) for m in network.modules() if isinstance(m, (nn.BatchNorm2d, nn.LayerNorm))]
    order = [m for part in (generator.encoder, generator.decoder) for m in part.modules() if m in norms]
    last = generator.decoder.last
    layers = order + [last] + [m for m in setting.critic.modules() if m in norms]
    assert len(layers) == len(norms) + 1

    def values(layer):
        """[any, values that share a bias], and their standard deviation."""
        found = []
        hook = layer.register_forward_hook(lambda _m, _i, output: found.append(output.detach()))
        with torch.no_grad():
            setting.passes()
        hook.remove()
        if layer is last:  # x^ of both generators, not x_a
            found = [y - setting.x for y in found[::2]]
        found = torch.cat(found)
        spread = found.std()
        return (found.flatten(1) if isinstance(layer, nn.LayerNorm) else found.transpose(1, 3).flatten(0, 2)), spread

    for layer in layers:
        for _ in range(20):
            found, spread = values(layer)
            close = found.abs().amin(0) < 1.2 * MARGIN * spread
            if not close.any():
                break
            for index in close.nonzero().flatten().tolist():
                column = found[:, index]
                moves = [sign * (k + 1) * 2.5 * MARGIN * spread for k in range(400) for sign in (1, -1)]
                move = next(m for m in moves if (column + m).abs().min() > 1.5 * MARGIN * spread)
                layer.bias.data.view(-1)[index] += move
            layer.bias.data = single(layer.bias.data)
    smallest = min((found.abs().min() / spread).item() for found, spread in map(values, layers))
    assert smallest > MARGIN, smallest
    return smallest


def prepared(name, plan):
    setting = initial(name, **plan)
    for network in (setting.generator, setting.critic, setting.frozen):
        network.load_state_dict({key: single(v) if v.is_floating_point() else v for key, v in network.state_dict().items()})
    statistics = {key: v.clone() for key, v in setting.generator.state_dict().items() if "running" in key}
    smallest = away_from_kinks(setting)
    setting.generator.load_state_dict(statistics, strict=False)
    setting.frozen.decoder = deepcopy(setting.generator.decoder)
    with torch.no_grad():
        latents = [setting.generator.eval().encode(setting.images(i)) for i in range(2)]
    setting.generator.train()
    centre, scale = e_step(latents)
    setting.centre, setting.scale = single(centre), single(scale).item()
    return setting, smallest


def gradients(loss, network):
    parameters = dict(network.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(parameters.items(), found)}


def first(setting, generator, inputs):
    """Outputs, losses and gradients of the first step."""
    alpha, zeta, critic, x = setting.alphas[0], setting.zetas[0], setting.critic, setting.x
    z, found, between = generated(generator, inputs, alpha)
    losses = generator_losses(critic, x, z, found, between, *setting.loss_facts())
    assert terms(x, found, WINDOW, len(setting.weights), SPAN).min() > 0.02
    total = losses[0] + losses[1] + LAMBDA * losses[2]
    of_critic = critic_losses(critic, x, found, between, alpha, zeta)
    mixed = zeta[:, None, None, None] * x + (1 - zeta[:, None, None, None]) * found
    outputs = dict(z=z, x_hat=found, x_a=between, critic=critic(between), critic_real=critic(mixed))
    facts = losses_named(losses, of_critic) | dict(total=rounded(total), similarity=flat(ms_ssim(x, found, WINDOW, setting.weights, SPAN)))
    found_gradients = exported(generator, "generator.", gradients(total, generator))
    return outputs, facts, found_gradients | exported(critic, "critic.", gradients(sum(of_critic), critic))


def losses_named(losses, of_critic):
    names = ("gaussian", "reconstruction", "regulariser", "interpolated", "real")
    return {name: rounded(value) for name, value in zip(names, [*losses, *of_critic])}


def ablations(setting):
    """{strategy: (loss, gradients of the generator)}."""
    generator, x = setting.generator, setting.x
    z = generator.encode(x)
    found = generator.decoder(z)
    l_r = reconstruction(x, found, WINDOW, setting.weights).mean()
    distance = squared_distances(z, setting.centre).mean()
    l_h = (1 - torch.exp(-squared_distances(z, setting.centre) / setting.scale)).mean()
    losses = (x - found).square().mean(), l_r, l_h + l_r, distance, distance + l_r
    return {name: (loss, exported(generator, "generator.", gradients(loss, generator))) for name, loss in zip(STRATEGIES, losses)}


def evaluated(setting):
    generator = setting.generator.eval()
    with torch.no_grad():
        outputs = dict(zip(("z", "x_hat", "x_a"), generated(generator, setting.x, setting.alphas[0])))
    generator.train()
    return outputs


def factor(epoch):
    return (1 - epoch / EPOCHS) ** POWER


def trained(setting):
    """Losses of two steps, and the tensors after them."""
    generator, critic = setting.generator, setting.critic
    both, losses = optimisers(generator, critic), []
    for number, epoch in enumerate(AT):
        for optimiser in both:
            optimiser.param_groups[0]["lr"] = ADAM["lr"] * factor(epoch)
        x = setting.images(number)
        losses.append(losses_named(*step(generator, critic, *both, x, x, setting.alphas[number], setting.zetas[number],
                                         *setting.loss_facts())))
    return losses, exported(generator, "generator.") | exported(critic, "critic.")


def relative(found, exact, unit):
    """The error of gradients, by the norm of the exact ones; of those that are 0 by `unit`."""
    size = exact.norm().item()
    return rounded((found.double() - exact).norm().item() / (size if size > 1e-9 * unit else unit))


def compared(exact, found):
    """{name: [norm, error in f32]}, and the names whose gradient is 0: a norm behind them takes any constant away."""
    unit = torch.stack([g.norm() for g in exact.values()]).max().item()
    zero = [name for name, g in exact.items() if g.norm() < 1e-9 * unit]
    return {name: [0.0 if name in zero else rounded(g.norm()), relative(found[name], g, unit)] for name, g in exact.items()}, zero


def cut(tensors):
    return {name: v[:ROWS] if v.numel() > LONG else v for name, v in tensors.items()}


def outputs_of(prefix, outputs, full):
    """Images are sampled, but for those that shall be stored in full."""
    return {f"{prefix}.{name}" + ("" if v.dim() < 4 or full else ".samples"): v if v.dim() < 4 or full else samples(v)
            for name, v in outputs.items()}


def deviations(exact, found):
    return {name: rounded((found[name].double() - v).abs().max()) for name, v in exact.items()}


def step_fixture(name):
    """step_local or step_global."""
    plan = PLANS[name]
    setting, smallest = prepared(name, plan)
    inputs = dict(x=setting.x, centre=setting.centre) | {f"alpha.{i}": v for i, v in enumerate(setting.alphas)}
    inputs |= {f"zeta.{i}": v for i, v in enumerate(setting.zetas)}
    start = exported(setting.generator, "generator.") | exported(setting.critic, "critic.")
    tensors = {key: v for key, v in start.items() if v.numel() <= LONG} | inputs
    filled = {key: dict(key=f"igd.{name}.hidden", shape=list(v.shape), scale=1 / 16) for key, v in start.items() if v.numel() > LONG}

    def both(function):
        return [function(setting.to(dtype)) for dtype in (torch.float64, torch.float32)]

    (outputs, losses, exact), (rough, _, in_single) = both(lambda s: first(s, s.generator, s.x))
    of_all, zero = compared(exact, in_single)
    tensors |= outputs_of("train", outputs, plan["side"] == LOCAL)
    tensors |= {f"gradient.{key}": v for key, v in cut(exact).items() if key not in zero}
    evaluation, rough_evaluation = both(evaluated)
    tensors |= outputs_of("eval", evaluation, False)
    (steps, after), (_, rough_after) = both(trained)
    tensors |= {f"after.{key}": v for key, v in cut(after).items()}
    changes = {key: [rounded((v - start[key]).abs().max()), rounded((rough_after[key].double() - v).abs().max()),
                     rounded((rough_after[key].double() - v).abs().mean())] for key, v in after.items()}

    (frozen_outputs, frozen_losses, frozen_exact), (_, _, frozen_single) = both(lambda s: first(s, s.frozen, s.vectors))
    of_frozen, frozen_zero = compared(frozen_exact, frozen_single)
    tensors |= {"frozen.vectors": setting.vectors} | outputs_of("frozen.train", frozen_outputs, False)
    tensors |= {f"frozen.generator.{key}": v for key, v in exported(setting.frozen).items() if key.startswith("head.")}
    tensors |= {f"frozen.gradient.{key}": v for key, v in frozen_exact.items() if key.startswith("generator.") and key not in frozen_zero}

    strategies, rough_strategies = both(ablations)
    found = [dict(strategy=key, loss=rounded(loss), gradients=compared(g, rough_strategies[key][1])[0])
             for key, (loss, g) in strategies.items()]
    facts = plan | dict(
        latent=LATENT, batch=BATCH, features=FEATURES, window=WINDOW, sigma=1.5, weights=list(setting.weights), range=SPAN, rho=RHO,
        regulariser=LAMBDA, scale=rounded(setting.scale), margin=rounded(smallest), filled=filled, rows=ROWS, zero=zero,
        learning_rate=ADAM["lr"], betas=list(ADAM["betas"]), epsilon=1e-8, weight_decay=DECAY, losses=losses, gradients=of_all,
        steps=[s | dict(epoch=e, epochs=EPOCHS, power=POWER, factor=rounded(factor(e))) for s, e in zip(steps, AT)], after=changes,
        single=dict(train=deviations(outputs, rough), eval=deviations(evaluation, rough_evaluation)),
        frozen=dict(losses=frozen_losses, zero=frozen_zero, gradients=of_frozen), ablations=found)
    errors = sorted(v[1] for v in [*of_all.values(), *of_frozen.values()])
    print(f"{name}: margin {smallest:.2e}, s {setting.scale:.3f}, losses {losses}, frozen {frozen_losses}\n"
          f"  steps {steps}\n  f32: gradients median {errors[len(errors) // 2]:.1e}, largest {errors[-1]:.1e}; outputs {facts['single']}; "
          f"after {max(v[1] for k, v in changes.items() if k not in zero):.1e}\n  zero: {zero}", flush=True)
    return facts, tensors


def shapes():
    """networks.json."""
    cases = []
    for side in (32, 64, 128, 256):
        for features in (None, 512):
            networks = dict(generator=Generator(side, 2, 3, LATENT, features), critic=Critic(side, 2))
            published = dict(generator=Generator(side, 64, 64, features=features), critic=Critic(side, 64))
            x = torch.zeros(2, 3, side, side)
            z, found, between = generated(networks["generator"], x if features is None else torch.zeros(2, features), torch.zeros(2))
            assert found.shape == x.shape and z.shape == (2, LATENT) and networks["critic"](between).shape == (2,)
            cases.append(dict(side=side, features=features, width=2, decoder_width=3, latent=LATENT)
                         | {key: {name: list(v.shape) for name, v in exported(m).items()} for key, m in networks.items()}
                         | dict(published={key: sum(p.numel() for p in m.parameters()) for key, m in published.items()}))
            print(f"networks: {side}, {features}: {cases[-1]['published']} parameters")
    return dict(cases=cases)
