#!/bin/sh
# The ablation of CKAAD's table 3 on magnetic tile: 5 % known anomalous images, of which only the label is used.
#
#     benches/ckaad-magnetic-tile.sh DATA WEIGHTS OUT
#
# DATA is the folder of magnetic tile, WEIGHTS those of EfficientNet-Lite0, OUT a folder for the results. Goes on where it was when it
# was killed. BURN_AD names another program than the one in target/release. About 20 minutes on one core.
set -eu
data=$1 weights=$2 out=$3
"${BURN_AD:-target/release/burn-ad}" experiment "$data" -o "$out" --method ckaad-medical --weights "$weights" --size 128 --fit squash \
    --anomaly-ratio 0.05 --seeds 3 --set method.schedule.epochs=15 --set method.schedule.batch=16 --set method.sigma=2 \
    --set method.validation=log \
    --variant 'Recon: method.strategy=recon' --variant 'ReconSub: method.strategy=recon-sub' --variant 'GAN: method.strategy=gan' \
    --variant 'CKAImg: method.strategy=cka-img' --variant 'CKAPatch: method.strategy=cka-patch'
