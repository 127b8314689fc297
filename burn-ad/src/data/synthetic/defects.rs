//! Which defect does what to which product.

use super::canvas::{Canvas, Point};
use super::fabric::{Fabric, Gap};
use super::kinds::{DefectKind, Product};
use super::marks;
use super::noise::Noise;
use super::plate::{Chip, HALF, HOLE_RADIUS, Plate};
use super::stream::Draws;

/// The painted scenes of one product without and with a defect.
///
/// Structural defects change the product before it is painted, the others the painted surface.
/// `None`: this product does not know the defect.
pub(super) fn canvases(
    product: Product,
    kind: DefectKind,
    size: usize,
    scene: &mut Draws,
    defect: &mut Draws,
) -> Option<(Canvas, Canvas)> {
    let unit = super::canvas::DESIGN / size as f32;
    match product {
        Product::MetalPlate => {
            let mut plate = Plate::draw(scene);
            let clean = Canvas::paint(size, |p| plate.colour(p, unit));
            damage_plate(&mut plate, kind, defect);
            let mut changed = Canvas::paint(size, |p| plate.colour(p, unit));
            mark_plate(&mut changed, &plate, kind, defect)?;
            Some((clean, changed))
        }
        Product::Fabric => {
            let mut fabric = Fabric::draw(size, scene);
            let clean = Canvas::paint(size, |p| fabric.colour(p));
            damage_fabric(&mut fabric, kind, defect);
            let mut changed = Canvas::paint(size, |p| fabric.colour(p));
            mark_fabric(&mut changed, kind, defect)?;
            Some((clean, changed))
        }
    }
}

/// The painted scene of a product without defect.
pub(super) fn normal(product: Product, size: usize, scene: &mut Draws) -> Canvas {
    let unit = super::canvas::DESIGN / size as f32;
    match product {
        Product::MetalPlate => {
            let plate = Plate::draw(scene);
            Canvas::paint(size, |p| plate.colour(p, unit))
        }
        Product::Fabric => {
            let fabric = Fabric::draw(size, scene);
            Canvas::paint(size, |p| fabric.colour(p))
        }
    }
}

fn damage_plate(plate: &mut Plate, kind: DefectKind, draws: &mut Draws) {
    match kind {
        DefectKind::MissingHole => {
            plate.holes.remove(draws.below(plate.holes.len()));
        }
        DefectKind::MisplacedHole => {
            let hole = &mut plate.holes[draws.below(4)];
            // Along the free part of the border: the mark is between the lower holes, so those move upwards.
            let axis = if hole[1] > 0.0 { 1 } else { 0 };
            hole[axis] -= draws.uniform(24.0, 38.0).copysign(hole[axis]);
        }
        DefectKind::ChippedEdge => {
            let side = draws.below(4);
            let (axis, sign) = (side % 2, if side < 2 { -1.0 } else { 1.0 });
            let mut centre = [0.0; 2];
            centre[axis] = sign * (HALF[axis] + draws.uniform(0.0, 4.0));
            centre[1 - axis] = draws.around_zero(HALF[1 - axis] - 6.0);
            plate.chip = Some(Chip {
                centre,
                radius: draws.uniform(8.0, 15.0),
                ragged: Noise(draws.seed()),
            });
        }
        _ => {}
    }
}

fn mark_plate(
    canvas: &mut Canvas,
    plate: &Plate,
    kind: DefectKind,
    draws: &mut Draws,
) -> Option<()> {
    match kind {
        DefectKind::Scratch => marks::scratch(canvas, somewhere_on(plate, 0.8, draws), draws),
        DefectKind::Dent => marks::dent(canvas, somewhere_on(plate, 0.85, draws), draws),
        DefectKind::Stain => marks::stain(canvas, somewhere_on(plate, 0.8, draws), draws),
        DefectKind::Fibre => marks::fibre(canvas, somewhere_on(plate, 0.8, draws), draws),
        DefectKind::Crack => {
            // Cracks start where the material is weakest: at a hole, towards the middle.
            let hole = plate.holes[draws.below(plate.holes.len())];
            let heading = (-hole[1]).atan2(-hole[0]) + draws.around_zero(1.0);
            let rim = [
                hole[0] + (HOLE_RADIUS + 1.0) * heading.cos(),
                hole[1] + (HOLE_RADIUS + 1.0) * heading.sin(),
            ];
            marks::crack(canvas, plate.in_picture(rim), heading, draws);
        }
        DefectKind::MissingHole | DefectKind::MisplacedHole | DefectKind::ChippedEdge => {}
        _ => return None,
    }
    Some(())
}

fn damage_fabric(fabric: &mut Fabric, kind: DefectKind, draws: &mut Draws) {
    match kind {
        DefectKind::BrokenThread => {
            let from = draws.uniform(10.0, 170.0);
            fabric.gap = Some(Gap {
                warp: 2 + draws.below(fabric.warps() as usize - 4) as i32,
                from,
                to: from + draws.uniform(30.0, 75.0),
            });
        }
        DefectKind::WrongStripe => {
            let stripes = fabric.stripes();
            fabric.lost_stripe = Some(stripes[draws.below(stripes.len())]);
        }
        _ => {}
    }
}

fn mark_fabric(canvas: &mut Canvas, kind: DefectKind, draws: &mut Draws) -> Option<()> {
    let place = [draws.uniform(28.0, 228.0), draws.uniform(28.0, 228.0)];
    match kind {
        DefectKind::Stain => marks::stain(canvas, place, draws),
        DefectKind::Fibre => marks::fibre(canvas, place, draws),
        DefectKind::PulledThread => marks::pulled_thread(canvas, place, draws),
        DefectKind::Tear => marks::tear(canvas, place, draws),
        DefectKind::BrokenThread | DefectKind::WrongStripe => {}
        _ => return None,
    }
    Some(())
}

/// A point in the picture on the inner `share` of the plate.
fn somewhere_on(plate: &Plate, share: f32, draws: &mut Draws) -> Point {
    let place = [
        draws.around_zero(share * HALF[0]),
        draws.around_zero(share * HALF[1]),
    ];
    plate.in_picture(place)
}
