"""Fixtures of IGD that need no network: MS-SSIM, E-step, scores and NT-Xent. Written by igd.py, which describes them."""

import pytorch_msssim
import torch
from pytorch_msssim.ssim import _fspecial_gauss_1d, _ssim
from torch.nn.functional import avg_pool2d, cross_entropy, fold, interpolate, normalize, relu, unfold

from backbone import uniform
from igd_networks import (GLOBAL_WEIGHTS, GLOBAL_WINDOW, LOCAL_WEIGHTS, LOCAL_WINDOW, RHO, SIGMA, SPAN, e_step, ms_ssim,
                          moved_away, reconstruction, scales, ssim, terms)

STORED = 40_000  # values; longer images are filled under their keys instead, and their gradients sampled
SAMPLES = 1024
DETAILED = ("local", "odd")  # also the maps and the gradient of SSIM
GREY = (0.2989, 0.5870, 0.1140)
PATCH, STRIDE = 32, 16
KINK = 5e-3  # of the terms of MS-SSIM


def rounded(value):
    """Nine digits: below f32's resolution."""
    return float(f"{value.item() if torch.is_tensor(value) else value:.9g}")


def flat(tensor):
    return [rounded(v) for v in tensor.detach().reshape(-1).tolist()]


def drawn(key, *shape):
    """[0, 1), on f32's grid, in f64."""
    return torch.from_numpy(uniform(key, torch.Size(shape).numel())).reshape(shape)


def single(tensor):
    """Rounded to f32, in f64."""
    return tensor.float().double()


def picture(key, *shape):
    """Coarse and finer spots and a little noise: normalised pixels, not rounded."""
    batch, channels, height, width = shape
    found = 0.1 * drawn(f"{key}.noise", *shape)
    for size, share in ((4, 0.6), (11, 0.3)):
        spots = drawn(f"{key}.{size}", batch, channels, size, size)
        found = found + share * interpolate(spots, size=(height, width), mode="bilinear", align_corners=True)
    return SPAN * found - 2.1179


def samples(tensor, count=SAMPLES):
    tensor = tensor.detach().reshape(-1)
    return tensor[[k * tensor.numel() // count for k in range(count)]]


def ssim_cases():
    """name, window, weights, x, y."""

    def related(name, *shape, noise=0.2):
        x = picture(f"ssim.{name}.x", *shape)
        return x, (1 - noise) * x + noise * picture(f"ssim.{name}.y", *shape)

    yield "local", LOCAL_WINDOW, LOCAL_WEIGHTS, *related("local", 2, 3, 32, 32, noise=0.4)
    yield "global-64", 3, GLOBAL_WEIGHTS, *related("global-64", 1, 3, 64, 64, noise=0.3)
    yield "odd", 3, (0.25, 0.35, 0.4), *related("odd", 2, 1, 40, 37)
    long = [single(SPAN * drawn(f"ssim.published.{name}", 1, 3, 176, 180) - 2.1179) for name in "xy"]
    yield "published", GLOBAL_WINDOW, GLOBAL_WEIGHTS, long[0], single(0.75 * long[0] + 0.25 * long[1])
    yield "near-identical", LOCAL_WINDOW, LOCAL_WEIGHTS, *related("near-identical", 1, 3, 32, 32, noise=1e-3)
    yield "unrelated", LOCAL_WINDOW, LOCAL_WEIGHTS, *(picture(f"ssim.unrelated.{i}", 4, 1, 32, 32) for i in (4, 5))
    levels = torch.tensor([0.7, 0.7, 0.7, 0.0])[:, None, None, None].expand(4, 1, 32, 32).double()
    other = torch.tensor([0.7, -1.3, 1.6, 0.0])[:, None, None, None].expand(4, 1, 32, 32).double()
    textured = other + torch.tensor([0.0, 0, 1, 0])[:, None, None, None] * 0.1 * picture("ssim.constant", 4, 1, 32, 32)
    yield "constant", LOCAL_WINDOW, LOCAL_WEIGHTS, levels, textured
    x, y = related("negative", 2, 3, 32, 32)
    y = torch.cat([0.4 - y[:1], torch.cat([y[1:, :2], 0.4 - y[1:, 2:]], 1)])
    yield "negative", LOCAL_WINDOW, LOCAL_WEIGHTS, x, y


def by_package(x, y, window, weights):
    """MS-SSIM of pytorch_msssim, with its own loop where it accepts the size; the flag says which."""
    if min(x.shape[2:]) > (window - 1) * 16:
        return pytorch_msssim.ms_ssim(x, y, SPAN, False, window, SIGMA, weights=list(weights)), True
    win, found = _fspecial_gauss_1d(window, SIGMA).expand(x.shape[1], 1, 1, -1), []
    for scale in range(len(weights)):
        if scale:
            x, y = (avg_pool2d(images, 2, padding=[side % 2 for side in x.shape[2:]]) for images in (x, y))
        found.append(_ssim(x, y, SPAN, win)[1])
    found[-1] = _ssim(x, y, SPAN, win)[0]
    return torch.prod(relu(torch.stack(found)) ** x.new_tensor(weights).view(-1, 1, 1), 0).mean(1), False


def with_gradient(function, y):
    y = y.clone().requires_grad_()
    values = function(y)
    return values.detach(), torch.autograd.grad(values.sum(), y)[0]


def similarity():
    """ssim.json and ssim.safetensors."""
    cases, tensors = [], {}
    for name, window, weights, x, y in ssim_cases():
        x, y = single(x), single(y)
        values, gradient = with_gradient(lambda y: ms_ssim(x, y, window, weights, SPAN), y)
        of_ssim, ssim_gradient = with_gradient(lambda y: ssim(x, y, window, SPAN), y)
        theirs, their_gradient = with_gradient(lambda y: by_package(x, y, window, weights)[0], y)
        plain, plain_gradient = with_gradient(lambda y: pytorch_msssim.ssim(x, y, SPAN, False, window, SIGMA), y)
        in_single, single_gradient = with_gradient(lambda y: ms_ssim(x.float(), y, window, weights, SPAN), y.float())
        found = terms(x, y, window, len(weights), SPAN)
        assert found.abs().min() > KINK and gradient.isfinite().all(), name
        largest = gradient.abs().max()

        def relative(found, largest=largest, gradient=gradient):
            return rounded((found - gradient).abs().max() / largest) if largest > 0 else rounded(found.abs().max())

        case = dict(name=name, shape=list(x.shape), window=window, sigma=SIGMA, weights=list(weights), range=SPAN,
                    stored=x.numel() <= STORED, similarity=flat(values), ssim=flat(of_ssim), maps=name in DETAILED,
                    zero_terms=int((found <= 0).sum()), norm=rounded(gradient.norm()), ssim_norm=rounded(ssim_gradient.norm()),
                    largest_gradient=rounded(largest), largest_ssim_gradient=rounded(ssim_gradient.abs().max()),
                    package=dict(whole=by_package(x, y, window, weights)[1], similarity=rounded((theirs - values).abs().max()),
                                 gradient=relative(their_gradient), ssim=rounded((plain - of_ssim).abs().max()),
                                 ssim_gradient=rounded((plain_gradient - ssim_gradient).abs().max())),
                    single=dict(similarity=rounded((in_single - values).abs().max()), gradient=relative(single_gradient)))
        assert max(v for k, v in case["package"].items() if k != "whole") < 2e-5, case
        cases.append(case)
        if case["stored"]:
            parts = dict(x=x, y=y, gradient=gradient)
        else:
            parts = dict(gradient=samples(gradient))
        if case["maps"]:
            parts |= dict(ssim_gradient=ssim_gradient) | {f"map.{i}": m for i, (m, _) in enumerate(scales(x, y, window, len(weights), SPAN))}
        tensors |= {f"{name}.{part}": value for part, value in parts.items()}
        print(f"ssim {name}: {case['similarity']}, {case['zero_terms']} zero terms, package {case['package']}, f32 {case['single']}")
    return dict(cases=cases), tensors


def e_steps():
    """estep.json. Two dimensions are 0 in all latents, so that their means are exactly 0 and -0."""
    sizes, width = (5, 4, 2), 8
    spread = torch.tensor([3.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 1.0])
    shift = torch.tensor([2.0, -1.5, 0.04, -0.06, 0.2, 0.0, -0.0, -0.3])
    cases = []
    for name, factor in (("wide", 1.0), ("narrow", 0.1)):
        batches = []
        for i, size in enumerate(sizes):
            noise = drawn(f"estep.{i}", size, width) - 0.5
            batches.append(noise * factor * spread)
        mean = torch.cat(batches).mean(0)
        batches = [single(z - mean + shift) for z in batches]
        for z in batches:
            z[:, 5], z[:, 6] = 0.0, -0.0
        means = torch.cat(batches).mean(0)
        centre, scale = e_step(batches)
        cases.append(dict(name=name, width=width, batches=[dict(count=len(z), z=flat(z)) for z in batches], mean=flat(means),
                          centre=flat(centre), scale=rounded(scale)))
        print(f"estep {name}: mean {flat(means)}, scale {cases[-1]['scale']}")
    means = torch.tensor([0.0, -0.0, 1e-7, -1e-7, 0.0625, -0.0625, 0.125, -0.125, 3.0])
    return dict(cases=cases, moved=dict(mean=flat(means), centre=flat(moved_away(means.double()))))


def contrastive(z, temperature):
    """NT-Xent of SimCLR; rows i and i + N are the two views of an image. The mean over the 2 N rows."""
    z = normalize(z, dim=1)
    half = len(z) // 2
    likeness = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return cross_entropy(likeness, (torch.arange(2 * half) + half) % (2 * half))


def nt_xent():
    """ntxent.json."""
    cases = []
    for half, width, temperature in ((4, 6, 0.5), (4, 6, 0.07), (1, 3, 0.5), (9, 16, 0.5)):
        first = 4 * drawn(f"ntxent.{half}.{width}.first", half, width) - 2
        z = single(torch.cat([first, first + 6 * drawn(f"ntxent.{half}.{width}.second", half, width) - 3])).requires_grad_()
        loss = contrastive(z, temperature)
        (gradient,) = torch.autograd.grad(loss, z)
        cases.append(dict(pairs=half, width=width, temperature=temperature, z=flat(z), loss=rounded(loss), gradient=flat(gradient)))
        print(f"ntxent: {half} pairs, temperature {temperature}: {cases[-1]['loss']}")
    return dict(cases=cases)


def residual(x, found, window, weights):
    """Pixel map [B, H, W]."""
    size = tuple(x.shape[2:])
    of_scales = [interpolate(1 - relu(m), size=size, mode="nearest") for m, _ in scales(x, found, window, len(weights), SPAN)]
    total = (1 - RHO) * sum(w * m for w, m in zip(weights, of_scales)) + RHO * (x - found).abs() / SPAN
    return torch.einsum("bchw,c->bhw", relu(total), x.new_tensor(GREY))


def cut_out(x):
    """Patches of images, row by row: [P, C, 32, 32]."""
    return unfold(x, PATCH, stride=STRIDE).transpose(1, 2).reshape(-1, x.shape[1], PATCH, PATCH)


def scoring():
    """scoring.json and scoring.safetensors."""
    size = 64
    x = single(picture("scoring.x", 1, 3, size, size))
    found = single(0.8 * x + 0.2 * picture("scoring.whole", 1, 3, size, size))
    patches = cut_out(x)
    found_patches = single(0.85 * patches + 0.15 * picture("scoring.patches", len(patches), 3, PATCH, PATCH))
    # One patch is reconstructed badly, so that some of its maps are negative.
    found_patches[5] = single(picture("scoring.bad", 1, 3, PATCH, PATCH)[0])
    distances, scale, patch_scale = single(2 * drawn("scoring.whole", 1)), 1.5, 2.25
    patch_distances = single(4 * drawn("scoring.distances", len(patches)))
    settings = (x, found, 3, GLOBAL_WEIGHTS), (patches, found_patches, LOCAL_WINDOW, LOCAL_WEIGHTS)
    rec, rec_patches = (reconstruction(*setting) for setting in settings)
    gac, gac_patches = (1 - torch.exp(-d / s) for d, s in ((distances, scale), (patch_distances, patch_scale)))

    def score(whole, local, joined):
        of_image = (whole[0] * rec + whole[1] * gac).item()
        best = (local[0] * rec_patches + local[1] * gac_patches).max(0)
        total = of_image + best.values.item()
        return dict(whole=list(whole), local=list(local), image=rounded(of_image), patches=rounded(best.values),
                    best=best.indices.item(), score=rounded(total / 2 if joined == "mean" else total), joined=joined)

    scores = dict(published=score((0.1, 0.9), (0.9, 0.1), "mean"), paper=score((1.0, 1.0), (1.0, 1.0), "sum"),
                  validation=score((0.5, 0.5), (0.5, 0.5), "mean"))
    of_image, of_patches = (residual(*setting) for setting in settings)

    def folded(maps):
        return fold(maps.flatten(1).T[None], (size, size), PATCH, stride=STRIDE)[0, 0]

    of_local = folded(of_patches) / folded(torch.ones_like(of_patches))
    facts = dict(size=size, patch=PATCH, stride=STRIDE, count=len(patches), range=SPAN, rho=RHO, grey=list(GREY), sigma=SIGMA,
                 whole=dict(window=3, weights=list(GLOBAL_WEIGHTS), scale=scale, distance=rounded(distances), reconstruction=rounded(rec),
                            gaussian=rounded(gac)),
                 local=dict(window=LOCAL_WINDOW, weights=list(LOCAL_WEIGHTS), scale=patch_scale, distances=flat(patch_distances),
                            reconstruction=flat(rec_patches), gaussian=flat(gac_patches)), scores=scores)
    print(f"scoring: {scores}, mean of the map {((of_image[0] + of_local) / 2).mean():.4f}")
    return facts, dict(x=x, x_hat=found, patches=found_patches, map_whole=of_image[0], map_patches=of_patches, map_local=of_local,
                       map=(of_image[0] + of_local) / 2)
