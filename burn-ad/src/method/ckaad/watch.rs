//! Says in words when the discriminator goes wrong.

use serde::{Deserialize, Serialize};

use super::config::{CkaadConfig, Strategy};
use super::learner::Game;

/// Epochs and steps that a discriminator has to find a difference.
const PATIENCE: (usize, u64) = (3, 100);
/// Energies closer than this share of the margin are the same.
const SAME: f64 = 0.01;
/// Energies of so many margins have no hold any more.
const EXPLODED: f64 = 10.0;

/// What has been said already.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    /// Steps with a discriminator so far.
    steps: u64,
    stalled: bool,
    exploded: bool,
}

impl Watch {
    /// Looks at the means of an epoch; a warning when something is wrong that was not said before.
    pub(super) fn look(
        &mut self,
        config: &CkaadConfig,
        epoch: usize,
        steps: u64,
        game: &Game,
    ) -> Option<String> {
        self.steps += steps;
        let Game {
            normal,
            generated,
            anomalous,
            ..
        } = *game;
        // Probabilities have no margin.
        let plain = config.strategy == Strategy::Gan;
        let margin = if plain { 1.0 } else { config.loss.margin };
        let said =
            format!("normal {normal:.3}, generated {generated:.3}, anomalous {anomalous:.3}");
        if !plain && normal > EXPLODED * margin && !self.exploded {
            self.exploded = true;
            return Some(format!(
                "epoch {epoch}: the discriminator has exploded, mean energies are {said} with a margin of {margin}: \
                 lower method.schedule.discriminator_rate"
            ));
        }
        let same = |energy: f64| (energy - normal).abs() < SAME * margin;
        let patient = epoch + 1 < PATIENCE.0 || self.steps < PATIENCE.1;
        // A plain discriminator never sees anomalous features as such.
        if same(generated) && (plain || same(anomalous)) && !patient && !self.stalled {
            self.stalled = true;
            let what = if plain { "probabilities" } else { "energies" };
            return Some(format!(
                "epoch {epoch}: the discriminator tells nothing apart, mean {what} are {said}: the anomalies change \
                 nothing so far; train longer, or raise method.schedule.discriminator_rate"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn game(normal: f64, generated: f64, anomalous: f64) -> Game {
        Game {
            normal,
            generated,
            anomalous,
            ..Game::default()
        }
    }

    #[test]
    fn each_fault_is_named_once() {
        let config = CkaadConfig::medical();
        let mut watch = Watch::default();
        let mut look = |epoch, game| watch.look(&config, epoch, 50, &game);
        assert_eq!(look(0, game(1.0, 1.01, 1.02)), None);
        assert_eq!(look(1, game(1.0, 1.01, 1.02)), None);
        let said = look(2, game(1.0, 1.01, 1.02)).expect("nothing is told apart");
        assert!(
            said.contains("epoch 2") && said.contains("nothing apart"),
            "{said}"
        );
        assert_eq!(look(3, game(1.0, 1.01, 1.02)), None);
        let said = look(4, game(60.0, 70.0, 80.0)).expect("far above the margin");
        assert!(said.contains("exploded"), "{said}");
        assert_eq!(look(5, game(60.0, 70.0, 80.0)), None);
    }

    #[test]
    fn a_discriminator_at_work_is_left_alone() {
        let config = CkaadConfig::medical();
        let mut watch = Watch::default();
        for epoch in 0..10 {
            assert_eq!(watch.look(&config, epoch, 50, &game(1.0, 1.0, 2.0)), None);
        }
    }
}
