//! Says in words when training goes wrong: when every image is mapped to the centre.

use serde::{Deserialize, Serialize};

use super::gaussian::Gaussian;

/// Vectors whose mean squared distance to the centre is below this share of the centre's own square are all the same.
const COLLAPSED: f64 = 1e-4;

/// What has been said already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    collapsed: bool,
}

impl Watch {
    /// Looks at the mean squared distance of an epoch; a warning when something is wrong that was not said
    /// before.
    pub(super) fn look(
        &mut self,
        epoch: usize,
        distance: f64,
        gaussian: &Gaussian,
    ) -> Option<String> {
        let centre: f64 = gaussian.centre.iter().map(|&c| f64::from(c).powi(2)).sum();
        if distance >= COLLAPSED * centre || self.collapsed {
            return None;
        }
        self.collapsed = true;
        Some(format!(
            "epoch {epoch}: the encoder maps everything to the centre (mean squared distance {distance:.2e}, the centre's \
             own square {centre:.2e}): the classifier tells nothing apart; lower method.schedule.learning_rate, or choose a \
             strategy that reconstructs"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collapse_is_named_once() {
        let gaussian = Gaussian {
            centre: vec![0.1; 100],
            scale: 1.0,
        };
        let mut watch = Watch::default();
        assert_eq!(watch.look(0, 0.5, &gaussian), None);
        assert_eq!(watch.look(1, 2e-4, &gaussian), None);
        let said = watch
            .look(2, 5e-5, &gaussian)
            .expect("below a ten-thousandth");
        assert!(
            said.contains("epoch 2") && said.contains("centre"),
            "{said}"
        );
        assert_eq!(watch.look(3, 5e-5, &gaussian), None);
    }
}
