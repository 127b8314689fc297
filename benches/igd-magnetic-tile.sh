#!/bin/sh
# IGD on magnetic tile: encoders from scratch, taught by EfficientNet-Lite0 (table 3's analogue), and Lite0 itself.
#
#     benches/igd-magnetic-tile.sh DATA WEIGHTS OUT
#
# DATA is the folder of magnetic tile, WEIGHTS those of EfficientNet-Lite0, OUT a folder for the encoder and the results. Goes on where it
# was when it was killed. BURN_AD names another program than the one in target/release, THREADS how many threads it has, SEEDS how many
# runs of each row there are, KD_STEPS (300) and EPOCHS (10) how long encoder and models train. With these about 25 minutes on one core.
set -eu
data=$1 weights=$2 out=$3
program=${BURN_AD:-target/release/burn-ad}
mkdir -p "$out"
encoder=$out/encoder.safetensors
if [ ! -f "$encoder" ]; then
    resume=
    [ ! -f "$encoder.checkpoint" ] || resume=--resume
    "$program" pretrain kd "$data" -o "$encoder" --weights "$weights" --size 32 --image-size 128 --fit squash --steps "${KD_STEPS:-300}" \
        --set learning_rate=5e-4 --set log_every=20 $resume ${THREADS:+--threads "$THREADS"}
fi
both='method.global.encoder="backbone"; method.local.encoder="backbone"'
"$program" experiment "$data" -o "$out/results" --method igd --size 128 --fit squash --train-limit 200 --test-limit 60 \
    --seeds "${SEEDS:-1}" ${THREADS:+--threads "$THREADS"} --backbone none \
    --set method.global.window=7 --set method.global.width=16 --set method.global.decoder_width=16 --set method.global.batch=16 \
    --set method.local.width=16 --set method.local.decoder_width=16 --set method.local.batch=4 --set method.patches.drawn=8 \
    --set method.schedule.epochs="${EPOCHS:-10}" --set method.schedule.learning_rate=3e-4 --set method.schedule.e_step=2 \
    --variant 'scratch: method.global.encoder="scratch"; method.local.encoder="scratch"' \
    --variant "KD: backbone.name=\"igd-encoder-32\"; backbone.weights=\"$encoder\"; $both" \
    --variant "Lite0: backbone.name=\"tf_efficientnet_lite0\"; backbone.weights=\"$weights\"; $both"
