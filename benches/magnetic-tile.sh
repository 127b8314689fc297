#!/usr/bin/env bash
# The tables of docs/results.md: every method and geometry on magnetic tile, one model and one evaluation each.
# benches/magnetic-tile.sh DATA WEIGHTS OUT [ROW...]     (build with `cargo build --release` first)
# DATA is the folder with MT_Free etc., a ROW is METHOD:FIT[:KEY=VALUE...]; finished rows are kept, so it can be run again after a kill.
set -euo pipefail
data=$1 weights=$2 out=$3
shift 3
[ $# -gt 0 ] || set -- padim:crop padim:letterbox patchcore:crop patchcore:letterbox npad:crop npad:letterbox padim:squash npad:squash patchcore:squash
burn_ad=${BURN_AD:-target/release/burn-ad}
mkdir -p "$out"
for row in "$@"; do
  IFS=: read -r method fit settings <<<"$row"
  name=$out/${row//[:=.]/-}
  [ ! -f "$name.results/metrics.json" ] || continue
  sets=()
  for setting in ${settings//:/ }; do sets+=(--set "$setting"); done
  "$burn_ad" train "$data" -o "$name.model" --overwrite --method "$method" --fit "$fit" --weights "$weights" --seed 0 "${sets[@]}"
  "$burn_ad" eval "$name.model" "$data" -o "$name.results" --overwrite --weights "$weights" --heatmaps "${HEATMAPS:-none}"
done
