//! A flow trained in PyTorch computes the same here (`tests/reference/flow_checkpoint.py`).
//!
//! Tolerance: 1e-5 of the largest value; PyTorch's own f32 is within 5e-7 of the f64 reference.

use std::path::PathBuf;

use burn::tensor::{Tensor, TensorData};
use burn_ad::flow::{Condition, ConditionalFlow, Flow, FlowConfig};
use burn_ad::tensors::{TensorSet, to_vec};
use burn_ad_weights::flows::read_flows;
use burn_flex::Flex;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/flow")
        .join(name)
}

#[test]
fn a_checkpoint_in_the_style_of_bgad_gives_its_own_outputs() {
    let device = Default::default();
    for checkpoint in ["bgad_style.pth", "bgad_style_flat.safetensors"] {
        let flows = read_flows(&path(checkpoint)).expect("checkpoint");
        assert_eq!(flows.len(), 2, "{checkpoint}");
        let mut expected = TensorSet::read(&path("bgad_style.safetensors")).expect("fixture");
        for (level, found) in flows.into_iter().enumerate() {
            let config = FlowConfig {
                blocks: found.blocks.len(),
                position_channels: found.condition,
                ..FlowConfig::bgad()
            };
            let flow: ConditionalFlow<Flex> =
                ConditionalFlow::from_freia(&config, found.channels, &found.blocks, &device)
                    .expect("it fits");
            let mut take = |name: &str, sizes: &[Option<usize>]| {
                expected
                    .take(&format!("l{level}.{name}"), sizes)
                    .expect(name)
            };
            let mut tensor = |name: &str| -> Tensor<Flex, 2> {
                let host = take(name, &[None, None]);
                Tensor::from_data(TensorData::new(host.values, host.shape), &device)
            };
            let condition = Condition::dense(tensor("condition"));
            let (z, log_det) = flow.forward(tensor("x"), &condition);
            let want = to_vec(tensor("z"));
            let want_log_det = take("log_det", &[None]).values;
            for (found, want) in [(to_vec(z), want), (to_vec(log_det), want_log_det)] {
                let largest = want.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                for (a, b) in found.iter().zip(&want) {
                    assert!((a - b).abs() < 1e-5 * largest, "{checkpoint}: {a} and {b}");
                }
            }
        }
    }
}
