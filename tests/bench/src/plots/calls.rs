//! More and more calls that run on one link when its peer's key goes.

use super::{Growth, Line, Point, counts};
use crate::row::Effort;
use crate::rows::cut::{Cut, Scene};

/// How many.
const COUNTS: [usize; 6] = [2, 10, 100, 300, 1000, 3000];

/// Measures it.
pub async fn measure(effort: Effort) -> Growth {
    let mut scene = Scene::set().await;
    let (mut last, mut middle) = (Vec::new(), Vec::new());
    // The first warms up.
    scene.cut(2).await;
    for calls in counts(&COUNTS, effort) {
        let Cut { delays, bytes } = scene.cut(*calls).await;
        let count = *calls as f64;
        let at = |share| crate::interval::quantile(&delays, share).max(f64::MIN_POSITIVE);
        last.push(Point { count, seconds: at(1.0), bytes: (bytes > 0.0).then_some(bytes) });
        middle.push(Point { count, seconds: at(0.5), bytes: None });
    }
    scene.end().await;
    Growth {
        file: "calls",
        of: "running calls",
        time: "from the watcher's DELETE to their end",
        memory: "what they hold, with their callers' tasks",
        lines: vec![Line { name: "the last", points: last }, Line { name: "the median", points: middle }],
    }
}
