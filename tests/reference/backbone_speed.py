"""Time of one feature pass at 256 x 256 with PyTorch: what benches/benches/backbone.rs measures.

Run:  python tests/reference/backbone_speed.py [threads]      (torch 2.15, torchvision 0.29, timm 1.0)
"""

import statistics
import sys
import time

import timm
import torch

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
for name in ["resnet18", "tf_efficientnet_lite0", "tf_efficientnet_b0"]:
    model = timm.create_model(name, pretrained=False, features_only=True).eval()
    for batch in (1, 8):
        images = torch.randn(batch, 3, 256, 256)
        times = []
        with torch.inference_mode():
            for _ in range(14):
                start = time.perf_counter()
                model(images)
                times.append(time.perf_counter() - start)
        print(f"{name} batch {batch}: {1000 * statistics.median(times[2:]):.1f} ms")
