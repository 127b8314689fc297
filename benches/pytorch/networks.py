"""The networks of compare.py: frozen feature extractors and a ResNet-18 that is trained."""

import timm
import torch
import torchvision
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


class ResNetFeatures(nn.Module):
    """The four stages of torchvision's ResNets, with strides 4, 8, 16 and 32."""

    def __init__(self, name):
        super().__init__()
        self.network = getattr(torchvision.models, name)(weights=None)

    def forward(self, x):
        network = self.network
        x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
        maps = []
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def features(name):
    """A frozen network as users run it; random weights: the time does not depend on them."""
    if name.startswith(("resnet", "wide_resnet")):
        return ResNetFeatures(name).eval()
    return timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)).eval()


def fold(module):
    """Takes every BatchNorm that directly follows a convolution into it, in place (evaluation mode)."""
    before = None
    for name, child in list(module.named_children()):
        if isinstance(before, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight, before.bias, child.running_mean, child.running_var, child.eps, child.weight, child.bias)
            rest = [child.drop, child.act] if isinstance(child, BatchNormAct2d) else []
            rest = [part for part in rest if not isinstance(part, nn.Identity)]
            setattr(module, name, nn.Sequential(*rest) if rest else nn.Identity())
        else:
            fold(child)
        before = child
    return module


def randomise_statistics(module):
    """Gives every BatchNorm statistics of its own, so that a comparison would notice one that was lost."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)


def folded(name):
    """The same network at its best: folded, for channels-last input. Fails when folding changes what it computes."""
    plain = features(name)
    randomise_statistics(plain)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = [y.clone() for y in plain(x)]
    with torch.no_grad():
        fold(plain)
    with torch.inference_mode():
        for wanted, found in zip(expected, plain(x)):
            error = (wanted - found).abs().max() / wanted.abs().max()
            assert error < 1e-4, f"{name}: folding changes a map by {error:.1e} of its maximum"
    return plain.to(memory_format=torch.channels_last)


def trainable_resnet18():
    """Without its classifier, BatchNorm in training mode."""
    return nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2]).train()
