#!/bin/sh
# The ablation of CKAAD on one-class Fashion-MNIST: each class in turn is normal; 5 % known anomalies of three other classes, drawn
# anew for each seed.
#
#     benches/ckaad-fashion.sh WEIGHTS OUT [DATA]
#
# WEIGHTS are those of EfficientNet-Lite0, OUT a folder for the results, DATA the four IDX files (Debian: apt-get install
# dataset-fashion-mnist). Goes on where it was when it was killed. BURN_AD names another program than the one in target/release.
# 150 trainings, about half an hour on one core.
set -eu
weights=$1 out=$2 data=${3:-/usr/share/datasets/fashion-mnist}
"${BURN_AD:-target/release/burn-ad}" experiment "$data" -o "$out" --method ckaad-medical --weights "$weights" --size 64 --fit squash \
    --anomaly-ratio 0.05 --anomaly-classes 3 --train-limit 600 --test-limit 50 --seeds 3 \
    --set method.schedule.epochs=6 --set method.schedule.batch=16 --set method.schedule.discriminator_rate=5e-4 --set method.sigma=0 \
    --vary data.normal_class=0,1,2,3,4,5,6,7,8,9 \
    --variant 'Recon: method.strategy=recon' --variant 'ReconSub: method.strategy=recon-sub' --variant 'GAN: method.strategy=gan' \
    --variant 'CKAImg: method.strategy=cka-img' --variant 'CKAPatch: method.strategy=cka-patch'
