#!/usr/bin/env bash
# NFAD and BGAD on magnetic tile with real EfficientNet-Lite0 features: the analogue of BGAD's tables 8
# and 10, with a budget for two CPU cores. Continues where it was when it is started again.
#
#   benches/bgad-magnetic-tile.sh DATA WEIGHTS OUT [more options of `burn-ad experiment`]
#
# DATA is the magnetic-tile folder, WEIGHTS an imported tf_efficientnet_lite0 (`burn-ad weights fetch efficientnet_lite0`).
set -euo pipefail
data=$1 weights=$2 out=$3
shift 3
"${BURN_AD:-target/release/burn-ad}" experiment "$data" -o "$out" --weights "$weights" \
  --method bgad --size 128 --fit squash --anomalies-per-kind 5,10 --seeds 3 \
  --set method.schedule.meta_epochs=6 --set method.schedule.sub_epochs=4 --set method.schedule.warm_up=1 \
  --set method.schedule.vector_share=0.1 --set method.schedule.chunk=1024 \
  --set method.schedule.learning_rate=3e-3 --set method.schedule.versions=4 \
  --variant 'NFAD: method.name=nfad' \
  --variant 'BGAD, no RPAG: method.augment=none; method.loss.weights.enabled=false' \
  --variant 'BGAD, RPAG: method.loss.weights.enabled=false' \
  --variant 'BGAD, RPAG, weights: method.loss.weights.enabled=true' \
  "$@"
