#!/usr/bin/env bash
# HGAD on six products with real EfficientNet-Lite0 features: one model for all beside the single-Gaussian baseline,
# the steps between them (the paper's ablation), and one model a product; with a budget for two CPU cores. Continues
# where it was when it is started again.
#
#   benches/hgad-products.sh TILE WEIGHTS OUT [more options of `burn-ad experiment`]
#
# TILE is the magnetic-tile folder, WEIGHTS an imported tf_efficientnet_lite0 (`burn-ad weights fetch efficientnet_lite0`).
# The products are drawn by benches/products.py (Python with numpy, pillow and scikit-image; PYTHON names another one).
set -euo pipefail
tile=$1 weights=$2 out=$3
shift 3
burn_ad=${BURN_AD:-target/release/burn-ad}
products=$out/products
if [ ! -d "$products/plate" ]; then
  rm -rf "$products"
  mkdir -p "$out"
  "${PYTHON:-python3}" "$(dirname "$0")/products.py" "$products" --tile "$tile" --test 120
  "$burn_ad" data synth "$products/plate" --train 60 --test-normal 60 --per-kind 8
fi

budget=(--weights "$weights" --method hgad --size 256 --fit squash --seeds 3
  --set method.schedule.meta_epochs=6 --set method.schedule.sub_epochs=4 --set method.schedule.warm_up=1
  --set method.schedule.learning_rate=2e-3)

inter='method.loss.intra=false'
"$burn_ad" experiment "$products" -o "$out/unified" "${budget[@]}" \
  --variant "single Gaussian: method.one_class=true; $inter" \
  --variant 'HGAD: method.loss.intra=true' \
  --variant "centres of products: $inter; method.loss.lambda_information=0; method.loss.lambda_entropy=0" \
  --variant "centres, mutual information: $inter; method.loss.lambda_entropy=0" \
  --variant "centres, mutual information, entropy: $inter" \
  "$@"
for product in brick grass gravel plate tile tissue; do
  "$burn_ad" experiment "$products/$product" -o "$out/alone/$product" "${budget[@]}" --variant "$product alone" "$@"
done
