//! Times of the kernels other than dense convolutions: the minimum over many short runs, which other
//! work on the machine disturbs least, and the mean CPU time of all threads.
//!
//! `cargo run --release -p burn-ad-kernels --example small_speed [words of the lines wanted]`

use std::hint::black_box;
use std::time::Instant;

use burn_ad_kernels::conv::expanded::{self, Expand};
use burn_ad_kernels::conv::{Algorithm, Weights};
use burn_ad_kernels::depthwise::{self, Depthwise};
use burn_ad_kernels::layout;
use burn_ad_kernels::norm::{self, Norm};
use burn_ad_kernels::{Activation, Isa, Map, Window, channels, mahalanobis, nearest, pool};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for isa in Isa::available() {
        let bench = Bench {
            isa,
            wanted: &wanted,
        };
        layouts(&bench);
        pools(&bench);
        norms(&bench);
        depthwises(&bench);
        expansions(&bench);
        gates(&bench);
        neighbours(&bench);
        gaussians(&bench);
    }
}

struct Bench<'a> {
    isa: Isa,
    wanted: &'a [String],
}

impl Bench<'_> {
    /// Whether the line of this name is wanted.
    fn wants(&self, name: &str) -> bool {
        let line = format!("{} {name}", self.isa);
        self.wanted.iter().all(|word| line.contains(word))
    }

    /// Prints the least time of `work`.
    fn time(&self, name: &str, mut work: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        let start = Instant::now();
        let mut least = f64::INFINITY;
        let before = cpu_time();
        let mut runs = 0;
        while runs < 5 || start.elapsed().as_secs_f64() < 0.3 {
            let once = Instant::now();
            work();
            least = least.min(once.elapsed().as_secs_f64());
            runs += 1;
        }
        // The mean: the kernel counts in ticks, which a single run may fall between.
        let cpu = before
            .zip(cpu_time())
            .map_or(f64::NAN, |(before, after)| after - before);
        let (isa, least) = (self.isa.to_string(), least * 1e3);
        let cpu = cpu * 1e3 / f64::from(runs);
        println!("{isa:>9}  {name:<62} {least:8.3} ms {cpu:8.3} ms CPU");
    }
}

/// Seconds that all threads of this process have spent on a CPU, where Linux tells: with other work on
/// the machine, it says more than the time that passed.
fn cpu_time() -> Option<f64> {
    let mut total = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let path = task.ok()?.path().join("schedstat");
        let text = std::fs::read_to_string(path).ok()?;
        total += text.split_whitespace().next()?.parse::<f64>().ok()? * 1e-9;
    }
    Some(total)
}

/// A map of `side` x `side` positions.
fn square(batch: usize, side: usize, channels: usize) -> Map {
    Map {
        batch,
        height: side,
        width: side,
        channels,
    }
}

/// Values that look random and repeat.
fn values(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| {
            // Mixed, so that vectors cut from them have no pattern.
            let mut bits = (i as u32).wrapping_mul(2_654_435_761);
            bits = (bits ^ (bits >> 15)).wrapping_mul(0x846C_A68B);
            ((bits ^ (bits >> 13)) >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn layouts(bench: &Bench<'_>) {
    for (batch, channels, side) in [(1, 64, 64), (1, 3, 256), (1, 512, 8), (8, 64, 64)] {
        let map = square(batch, side, channels);
        let x = values(map.len());
        let mut out = vec![0.0; map.len()];
        let name = format!("{batch} x {channels} @ {side}");
        bench.time(&format!("layout to channels last {name}"), || {
            layout::to_channels_last(bench.isa, black_box(&x), map, &mut out);
        });
        bench.time(&format!("layout to channels first {name}"), || {
            layout::to_channels_first(bench.isa, black_box(&x), map, &mut out);
        });
    }
}

fn pools(bench: &Bench<'_>) {
    for (map, window) in [
        (square(1, 128, 64), Window::square(3, 2, 1)),
        (square(8, 64, 64), Window::square(3, 2, 1)),
    ] {
        let size = window.output(map);
        let x = values(map.len());
        let (mut out, mut back) = (vec![0.0; size.len()], vec![0.0; map.len()]);
        let mut indices = vec![0; size.len()];
        let name = format!("{} x {} @ {}", map.batch, map.channels, map.height);
        bench.time(&format!("pool max {name}"), || {
            pool::max(bench.isa, black_box(&x), map, &window, &mut out);
        });
        bench.time(&format!("pool max with indices {name}"), || {
            pool::max_with_indices(
                bench.isa,
                black_box(&x),
                map,
                &window,
                &mut out,
                &mut indices,
            );
        });
        bench.time(&format!("pool max backward {name}"), || {
            pool::max_backward(
                bench.isa,
                black_box(&out),
                &indices,
                map,
                &window,
                &mut back,
            );
        });
    }
    for map in [square(1, 64, 64), square(1, 32, 512)] {
        let window = Window::square(3, 1, 1);
        let x = values(map.len());
        let mut out = vec![0.0; map.len()];
        let name = format!("{} x {} @ {}", map.batch, map.channels, map.height);
        bench.time(&format!("pool average {name}"), || {
            pool::average(bench.isa, black_box(&x), map, &window, true, &mut out);
        });
        bench.time(&format!("pool average backward {name}"), || {
            pool::average_backward(bench.isa, black_box(&x), map, &window, true, &mut out);
        });
    }
}

fn norms(bench: &Bench<'_>) {
    for (rows, channels) in [(8 * 32 * 32, 64), (8 * 16 * 16, 128), (8 * 4 * 4, 512)] {
        let size = norm::Size {
            groups: 1,
            rows,
            channels,
        };
        let (x, residual) = (values(size.len()), values(size.len()));
        let (scale, offset) = (values(channels), values(channels));
        let (mut y, mut grad_x) = (residual.clone(), vec![0.0; size.len()]);
        let mut grad_residual = grad_x.clone();
        let norm = Norm {
            size,
            affine: Some((&scale, &offset)),
            residual: Some(&residual),
            activation: Activation::Relu,
        };
        bench.time(&format!("norm forward {rows} x {channels}"), || {
            norm::forward(bench.isa, black_box(&x), &norm, 1e-5, &mut y);
        });
        let moments = norm::forward(bench.isa, &x, &norm, 1e-5, &mut y);
        bench.time(&format!("norm backward {rows} x {channels}"), || {
            norm::backward(
                bench.isa,
                (black_box(&x), &y, &residual),
                &norm,
                &moments,
                &mut grad_x,
                Some(&mut grad_residual),
            );
        });
    }
}

fn depthwises(bench: &Bench<'_>) {
    for (channels, side, kernel, stride) in [
        (96, 64, 3, 1),
        (144, 64, 5, 2),
        (480, 16, 3, 1),
        (672, 16, 5, 1),
        (1152, 8, 5, 1),
    ] {
        let map = square(1, side, channels);
        let window = Window::square(kernel, stride, kernel / 2);
        let size = window.output(map);
        let (x, weight) = (values(map.len()), values(kernel * kernel * channels));
        let bias = values(channels);
        let (mut out, mut back) = (vec![0.0; size.len()], vec![0.0; map.len()]);
        let name = format!("{channels} @ {side} kernel {kernel} stride {stride}");
        for activation in [Activation::Relu6, Activation::Swish] {
            let depthwise = Depthwise {
                window,
                weight: &weight,
                bias: Some(&bias),
                activation,
            };
            bench.time(&format!("depthwise {name} {activation:?}"), || {
                depthwise::forward(bench.isa, black_box(&x), map, &depthwise, &mut out);
            });
        }
        let mut grad = weight.clone();
        bench.time(&format!("depthwise weight gradient {name}"), || {
            let x = black_box(&x);
            depthwise::weight_gradient(bench.isa, x, map, window, &out, &mut grad);
        });
        bench.time(&format!("depthwise input gradient {name}"), || {
            depthwise::input_gradient(bench.isa, black_box(&out), map, window, &weight, &mut back);
        });
    }
}

fn expansions(bench: &Bench<'_>) {
    for (inputs, side, kernel, stride) in [
        (16, 128, 3, 2),
        (24, 64, 3, 1),
        (24, 64, 5, 2),
        (40, 32, 5, 1),
        (80, 16, 3, 1),
        (112, 16, 5, 1),
        (192, 8, 5, 1),
    ] {
        let map = square(1, side, inputs);
        let channels = 6 * inputs;
        let window = Window::square(kernel, stride, kernel / 2);
        let size = window.output(Map { channels, ..map });
        let (x, bias) = (values(map.len()), values(channels));
        let (first, second) = (
            values(inputs * channels),
            values(kernel * kernel * channels),
        );
        let weights = Weights::pack(
            bench.isa,
            Algorithm::Direct,
            &first,
            [channels, inputs, 1, 1],
        );
        let expand = Expand {
            weights: &weights,
            bias: Some(&bias),
            activation: Activation::Relu6,
        };
        let depthwise = Depthwise {
            window,
            weight: &second,
            bias: Some(&bias),
            activation: Activation::Relu6,
        };
        let mut out = vec![0.0; size.len()];
        let name = format!("expanded {inputs} @ {side} kernel {kernel} stride {stride}");
        bench.time(&name, || {
            expanded::forward(black_box(&x), map, expand, &depthwise, &mut out);
        });
    }
}

fn gates(bench: &Bench<'_>) {
    let map = square(1, 32, 240);
    let (mut x, gate) = (values(map.len()), values(map.channels));
    let (mut mean, mut out) = (gate.clone(), x.clone());
    bench.time("channels mean 240 @ 32", || {
        channels::mean(bench.isa, black_box(&x), map, &mut mean);
    });
    bench.time("channels scale 240 @ 32", || {
        channels::scale(bench.isa, black_box(&x), map, &gate, &mut out);
    });
    bench.time("channels scale in place 240 @ 32", || {
        channels::scale_in_place(bench.isa, black_box(&mut out), map, &gate);
    });
    bench.time("channels swish in place 240 @ 32", || {
        channels::activate(bench.isa, black_box(&mut x), Activation::Swish);
    });
}

fn neighbours(bench: &Bench<'_>) {
    for (n, count, dimension) in [(1024, 16384, 384), (784, 16384, 1536)] {
        let (bank, queries) = (values(count * dimension), values(n * dimension + 7));
        let name = format!("nearest {n} x {dimension} of {count}");
        let bank = nearest::Bank::pack(bench.isa, bank, dimension);
        let queries = &queries[7..];
        for k in [1, 9] {
            let (mut distances, mut indices) = (vec![0.0; n * k], vec![0; n * k]);
            bench.time(&format!("{name}, {k} neighbours"), || {
                bank.k_nearest(black_box(queries), k, &mut distances, &mut indices);
            });
        }
    }
}

fn gaussians(bench: &Bench<'_>) {
    let grid = [64, 64];
    let positions = grid[0] * grid[1];
    for dimension in [100, 200] {
        let name = format!("mahalanobis 4096 positions, dimension {dimension}");
        let means = values(positions * dimension);
        let factors = values(positions * dimension * (dimension + 1) / 2);
        let gaussians = mahalanobis::Gaussians {
            grid,
            dimension,
            means: &means,
            factors: &factors,
        };
        for (batch, search) in [(1, 0), (8, 0), (1, 1), (8, 1)] {
            let features = values(batch * positions * dimension);
            let mut out = vec![0.0; batch * positions];
            bench.time(&format!("{name}, {batch} images, search {search}"), || {
                let features = black_box(&features);
                mahalanobis::distances(bench.isa, &gaussians, features, batch, search, &mut out);
            });
        }
    }
}
