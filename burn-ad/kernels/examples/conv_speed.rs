//! How fast the convolutions are: GFLOP/s of multiplications and additions that the definition needs,
//! so Winograd's algorithms may pass what the processor can do. Each figure is the best of many runs,
//! which other programs disturb least.
//!
//! `cargo run --release -p burn-ad-kernels --example conv_speed [part of a layer's name [isa
//! [gradients]]]`

use std::time::{Duration, Instant};

use burn_ad_kernels::conv::gradient::{self, Layer};
use burn_ad_kernels::conv::{Algorithm, Epilogue, Geometry, Padding, Weights, forward};
use burn_ad_kernels::{Activation, Isa};

/// Inputs, outputs, size, kernel, stride.
const LAYERS: [[usize; 5]; 37] = [
    [64, 128, 64, 1, 1],
    [256, 128, 64, 1, 1],
    [128, 128, 64, 3, 1],
    [128, 256, 64, 1, 1],
    [256, 256, 64, 3, 2],
    [256, 512, 32, 1, 1],
    [512, 256, 32, 1, 1],
    [256, 256, 32, 3, 1],
    [512, 512, 16, 3, 1],
    [512, 512, 32, 3, 2],
    [1024, 512, 16, 1, 1],
    [512, 512, 16, 3, 2],
    [1024, 1024, 16, 3, 2],
    [1024, 1024, 8, 3, 1],
    [1024, 2048, 8, 1, 1],
    [64, 64, 64, 3, 1],
    [128, 128, 32, 3, 1],
    [256, 256, 16, 3, 1],
    [512, 512, 8, 3, 1],
    [64, 128, 64, 3, 2],
    [3, 64, 256, 7, 2],
    [256, 1024, 16, 1, 1],
    [64, 64, 32, 3, 1],
    [128, 128, 16, 3, 1],
    [256, 256, 8, 3, 1],
    [512, 512, 4, 3, 1],
    [256, 512, 16, 3, 2],
    [256, 512, 16, 1, 2],
    [512, 2048, 8, 1, 1],
    [2048, 512, 8, 1, 1],
    [3, 32, 256, 3, 2],
    [16, 96, 128, 1, 1],
    [96, 24, 64, 1, 1],
    [24, 144, 64, 1, 1],
    [240, 40, 32, 1, 1],
    [672, 112, 16, 1, 1],
    [192, 1152, 8, 1, 1],
];

/// Seconds of the fastest run.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    while begin.elapsed() < Duration::from_millis(250) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn values(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i * 37 % 101) as f32 * 0.02 - 1.0)
        .collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().unwrap_or_default();
    let isa_wanted = arguments.next().unwrap_or_default();
    let gradients = arguments.next().is_some();
    println!(
        "{} threads; GFLOP/s, packing in GB/s",
        rayon::current_num_threads()
    );
    for isa in Isa::available().filter(|isa| isa.to_string().contains(&isa_wanted)) {
        for [inputs, outputs, size, kernel, stride] in LAYERS {
            for batch in [1, 8] {
                let name = format!("{inputs}->{outputs} @{size} k{kernel}s{stride} b{batch}");
                if !name.contains(&wanted) {
                    continue;
                }
                let geometry = Geometry {
                    batch,
                    height: size,
                    width: size,
                    kernel: [kernel; 2],
                    stride,
                    padding: Padding::all(kernel / 2),
                };
                let shape = [outputs, inputs, kernel, kernel];
                let positions: usize = batch * geometry.output().iter().product::<usize>();
                let flops = 2.0 * positions as f64 * shape.iter().product::<usize>() as f64;
                let x = values(batch * size * size * inputs);
                let weight = values(shape.iter().product());
                let bias = values(outputs);
                let mut out = vec![0.0; positions * outputs];
                let mut line = format!("{:<9}{name:<28}", isa.to_string());
                for algorithm in Algorithm::ALL {
                    if !algorithm.fits(geometry.kernel, stride) {
                        continue;
                    }
                    let mut weights = Weights::pack(isa, algorithm, &weight, shape);
                    let epilogue = Epilogue {
                        bias: Some(&bias),
                        residual: None,
                        activation: Activation::Relu,
                    };
                    let time = best(|| forward(&x, &geometry, &weights, epilogue, &mut out));
                    let packing = best(|| weights.repack(&weight));
                    let star = if Algorithm::choose(false, shape, &geometry) == algorithm {
                        "*"
                    } else {
                        ""
                    };
                    line += &format!(
                        "  {algorithm:?}{star} {:.0} ({:.1})",
                        flops / time * 1e-9,
                        4.0 * weight.len() as f64 / packing * 1e-9
                    );
                }
                if gradients {
                    let mut dx = vec![0.0; x.len()];
                    let mut dw = vec![0.0; weight.len()];
                    for precise in [true, false] {
                        let layer = Layer {
                            isa,
                            precise,
                            geometry,
                            shape,
                        };
                        let to_input =
                            best(|| gradient::input(&layer, &out, &weight, None, &mut dx));
                        let to_weight = best(|| gradient::weight(&layer, &x, &out, &mut dw));
                        line += &format!(
                            "  {} dx {:.0} dw {:.0}",
                            if precise { "precise" } else { "fast" },
                            flops / to_input * 1e-9,
                            flops / to_weight * 1e-9
                        );
                    }
                }
                println!("{line}");
            }
        }
    }
}
