#!/usr/bin/env bash
# The measurements that wait for an NVIDIA GPU: `burn-ad bench` and its comparison with PyTorch on the same GPU, N-pad, CKAAD, IGD
# and BGAD at the papers' sizes. It has not been run yet: there was no GPU at hand.
#
#   benches/gpu.sh OUT [DATA...]
#
# OUT gets everything that is measured; each DATA is the folder of one product (MVTec AD, or any layout that `burn-ad data
# info` knows). Without DATA only the benchmarks run. Finished trainings are kept when it is started again.
#
# Needs: an NVIDIA driver, the CUDA runtime compiler (libnvrtc, of the CUDA toolkit 12 or newer), a Rust toolchain, weights of
# wide_resnet50_2 and tf_efficientnet_b6 in the cache (`burn-ad weights list` says how to fetch them), or WEIGHTS_NPAD, WEIGHTS_BGAD naming
# imported files, resnet18 likewise (WEIGHTS_IGD). For the comparison also Python with torch, torchvision, timm, FrEIA, scikit-learn and scikit-image;
# PYTHON names it (python3 otherwise), SKIP_PYTORCH=1 leaves it out.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,14s/^# \{0,1\}//p' "$0"
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
out=$1
shift
mkdir -p "$out"

say() { printf '\n== %s\n' "$*"; }

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L; then
  echo "no NVIDIA GPU answers nvidia-smi on this machine" >&2
  exit 1
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv >"$out/gpu.csv"

if [ -z "${BURN_AD:-}" ]; then
  say "building with CUDA"
  BURN_AD_COMMIT=$(git -C "$root" rev-parse HEAD 2>/dev/null || true) \
    cargo build --release --features cuda --manifest-path "$root/Cargo.toml"
  BURN_AD=${CARGO_TARGET_DIR:-$root/target}/release/burn-ad
fi
"$BURN_AD" backends

say "what training and scoring consist of"
"$BURN_AD" bench --backend cuda -o "$out/bench"

if [ -z "${SKIP_PYTORCH:-}" ]; then
  say "beside PyTorch on the same GPU"
  "${PYTHON:-python3}" "$root/benches/pytorch/compare.py" --ours "$BURN_AD" --backend cuda --device cuda \
    --only features,flow-step,conv-step,ckaad-step,igd-step,scoring --json "$out/compare.json" --markdown "$out/compare.md"
fi

# name, then the options of one training
train() {
  local name=$1 data=$2
  shift 2
  local product
  product=$(basename "$data")
  local to=$out/$name/$product
  [ ! -f "$to.results/metrics.json" ] || return 0
  mkdir -p "$out/$name"
  say "$name, $product"
  "$BURN_AD" train "$data" -o "$to.model" --overwrite --with-backbone --backend cuda --seed 0 "$@"
  "$BURN_AD" eval "$to.model" "$data" -o "$to.results" --overwrite --backend cuda --protocol paper --heatmaps none
}

for data in "$@"; do
  # N-pad: a backbone that its paper reports (the rest of its settings is our reconstruction), all normal images fitted.
  train npad "$data" --method npad --backbone wide_resnet50_2 --protocol paper \
    ${WEIGHTS_NPAD:+--weights "$WEIGHTS_NPAD"}
  # BGAD: tf_efficientnet_b6, 10 known anomalies, the preset's 25 meta epochs of 8 passes.
  train bgad "$data" --method bgad --backbone tf_efficientnet_b6 --anomalies 10 --protocol paper \
    ${WEIGHTS_BGAD:+--weights "$WEIGHTS_BGAD"}
  # CKAAD: wide_resnet50_2, elastic twins, the preset's 200 epochs.
  train ckaad "$data" --method ckaad --backbone wide_resnet50_2 --protocol paper \
    ${WEIGHTS_NPAD:+--weights "$WEIGHTS_NPAD"}
  # IGD: resnet18 as the frozen global encoder, the local model from scratch, the preset's 256 epochs.
  train igd "$data" --method igd --backbone resnet18 --fit squash --protocol paper \
    ${WEIGHTS_IGD:+--weights "$WEIGHTS_IGD"}
done
if [ -d /usr/share/datasets/fashion-mnist ]; then
  say "IGD on one-class Fashion-MNIST, 256 epochs"
  for part in main ablation small contamination; do
    IGD_FULL=1 BACKEND=cuda BURN_AD=$BURN_AD "$root/benches/igd-fashion.sh" "$part" "$out/igd-fashion-$part"
  done
fi
say "done: $out"
