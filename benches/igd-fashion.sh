#!/bin/sh
# IGD on one-class Fashion-MNIST, from scratch: each class in turn is normal (tables 1, 5, 6 and 7 of the paper).
#
#     benches/igd-fashion.sh main|ablation|small|contamination OUT [DATA]
#
# OUT is a folder for the results, one a part; DATA the four IDX files (Debian: apt-get install dataset-fashion-mnist). Goes on where it
# was when it was killed. BURN_AD names another program than the one in target/release, THREADS how many threads it has, BACKEND what it
# computes on.
#
# `main` has the wider networks; it logs the AUROC of its test images every third epoch (train.jsonl, watched_auroc). The others have
# networks of a quarter of the paper's width. With IGD_FULL=1 all have the paper's networks, data and 256 epochs: for a GPU.
set -eu
part=$1 out=$2 data=${3:-/usr/share/datasets/fashion-mnist}
widths() { echo "--set method.local.width=$1 --set method.local.decoder_width=$1"; }
if [ -n "${IGD_FULL:-}" ]; then
    budget=
elif [ "$part" = main ]; then
    budget="$(widths 32) --train-limit 1000 --test-limit 60 --set method.schedule.epochs=15"
else
    budget="$(widths 16) --train-limit 600 --test-limit 60 --set method.schedule.epochs=10"
fi
mse='MSE: method.strategy=mse' rec='REC: method.strategy=rec' gac='REC+GAC: method.strategy=rec-gac' igd='IGD: method.strategy=igd'
svdd='DSVDD: method.strategy=dsvdd' both='DSVDD+REC: method.strategy=dsvdd-rec'
# shellcheck disable=SC2086 # the budget is several words
run() {
    "${BURN_AD:-target/release/burn-ad}" experiment "$data" -o "$out" --method igd-scratch --protocol paper --seeds 1 $budget \
        ${THREADS:+--threads "$THREADS"} ${BACKEND:+--backend "$BACKEND"} --vary data.normal_class=0,1,2,3,4,5,6,7,8,9 "$@"
}
case $part in
main) run --set train.watch_every=3 --variant "$igd" ;;
ablation) run --variant "$mse" --variant "$rec" --variant "$gac" --variant "$igd" --variant "$svdd" --variant "$both" ;;
small) run --vary data.train_limit=120 --variant "$mse" --variant "$rec" --variant "$gac" --variant "$igd" --variant "$svdd" \
    --variant "$both" ;;
contamination) run --vary data.contamination=10%,5%,1% --variant "$svdd" --variant "$both" --variant "$igd" ;;
*) echo "the parts are main, ablation, small, contamination" >&2; exit 2 ;;
esac
