#!/usr/bin/env bash
# What it does to the products a model knows when another one is added (`burn-ad train --init-from`), on the products
# that benches/hgad-products.sh has drawn: five, then the sixth with images of all six, or with images of the new one alone.
#
#   benches/hgad-more-products.sh OUT WEIGHTS [SEEDS]
#
# OUT is the folder that benches/hgad-products.sh has written.
set -euo pipefail
out=$1 weights=$2 seeds=${3:-1}
burn_ad=${BURN_AD:-target/release/burn-ad}
new=tissue
more=$out/more
mkdir -p "$more/old" "$more/new"
for product in brick grass gravel plate tile; do
  ln -sfn "$(realpath "$out/products/$product")" "$more/old/$product"
done
ln -sfn "$(realpath "$out/products/$new")" "$more/new/$new"

train() { # folder, model, further flags
  [ -f "$2/model.json" ] || "$burn_ad" train "$1" -o "$2" --overwrite --quiet --weights "$weights" "${@:3}"
}
evaluate() {
  [ -f "$1.results/metrics.json" ] ||
    "$burn_ad" eval "$1" "$out/products" -o "$1.results" --overwrite --quiet --weights "$weights" --heatmaps none >/dev/null
}
for seed in $(seq 0 $((seeds - 1))); do
  models=$more/$seed
  mkdir -p "$models"
  schedule=(--set method.schedule.meta_epochs=6 --set method.schedule.sub_epochs=4 --set method.schedule.warm_up=1)
  train "$more/old" "$models/five" --method hgad --size 256 --fit squash --seed "$seed" "${schedule[@]}" \
    --set method.schedule.learning_rate=2e-3
  # Half the passes, and a lower rate: what is known is only to make room.
  short=(--set method.schedule.meta_epochs=3 --set method.schedule.learning_rate=1e-3 --set method.schedule.intra_from=0)
  train "$out/products" "$models/all" --init-from "$models/five" "${short[@]}"
  train "$more/new" "$models/alone" --init-from "$models/five" "${short[@]}"
  for model in five all alone; do evaluate "$models/$model"; done
done

python3 - "$more" "$seeds" <<'PY'
import json, sys
more, seeds = sys.argv[1], int(sys.argv[2])
for model in ["five", "all", "alone"]:
    rows = {}
    for seed in range(seeds):
        for product in json.load(open(f"{more}/{seed}/{model}.results/metrics.json"))["classes"]:
            rows.setdefault(product["class"], []).append([product[k] for k in ("image_auroc", "pixel_auroc", "class_accuracy")])
    for product, values in rows.items():
        mean = [sum(value) / len(value) for value in zip(*values)]
        print(f"{model:6} {product:8} image AUROC {mean[0]:.3f}  pixel AUROC {mean[1]:.3f}  class accuracy {mean[2]:.3f}")
PY
