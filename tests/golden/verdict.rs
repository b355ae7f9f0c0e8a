//! The sum of one test's comparisons: how many, the worst figure of each kind, and every failure. A test
//! that compared nothing fails.

use crate::tensors::Array;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Display};

/// At most so many failures are printed.
const SHOWN: usize = 20;

pub(crate) struct Verdict {
    title: String,
    compared: usize,
    /// By kind of figure: the worst one and where it was met.
    worst: BTreeMap<&'static str, (f64, String)>,
    failures: Vec<String>,
}

impl Verdict {
    pub(crate) fn new(title: impl Display) -> Self {
        Self { title: title.to_string(), compared: 0, worst: BTreeMap::new(), failures: Vec::new() }
    }

    pub(crate) fn fail(&mut self, what: impl Display) {
        self.failures.push(what.to_string());
    }

    fn figure(&mut self, kind: &'static str, place: &str, figure: f64, most: f64) {
        self.compared += 1;
        // NaN is worse than anything.
        let figure = if figure.is_nan() { f64::INFINITY } else { figure };
        let worst = self.worst.entry(kind).or_insert((0.0, place.to_owned()));
        if figure > worst.0 {
            *worst = (figure, place.to_owned());
        }
        if figure > most {
            self.fail(format!("{place}: {kind} {figure:.3e}, at most {most:.0e} is allowed"));
        }
    }

    fn same_shape(&mut self, place: &str, got: &Array, want: &Array) -> bool {
        if got.shape != want.shape {
            self.fail(format!("{place}: shape {:?}, diffusers' is {:?}", got.shape, want.shape));
        }
        got.shape == want.shape
    }

    /// The same JSON.
    pub(crate) fn same(&mut self, place: &str, got: &Value, want: &Value) {
        self.compared += 1;
        if got != want {
            self.fail(format!("{place}: {got}, diffusers' is {want}"));
        }
    }

    /// Every value equal. The figure is the largest difference.
    pub(crate) fn equal(&mut self, place: &str, got: &Array, want: &Array) {
        if self.same_shape(place, got, want) {
            let (at, apart) = furthest(got, want, |got, want| (got - want).abs());
            self.figure("difference", &format!("{place}[{at}]"), apart, 0.0);
        }
    }

    /// Every value within `most` of the wanted one, relative to it.
    pub(crate) fn each_within(&mut self, place: &str, got: &Array, want: &Array, most: f64) {
        if self.same_shape(place, got, want) {
            let (at, apart) =
                furthest(
                    got,
                    want,
                    |got, want| if got == want { 0.0 } else { ((got - want) / want).abs() },
                );
            self.figure("relative difference of a value", &format!("{place}[{at}]"), apart, most);
        }
    }

    /// ‖got − want‖ / ‖want‖ within `most`.
    pub(crate) fn norm_within(&mut self, place: &str, got: &Array, want: &Array, most: f64) {
        if self.same_shape(place, got, want) {
            let pairs = || got.values.iter().zip(&want.values);
            let apart: f64 = pairs().map(|(got, want)| (got - want).powi(2)).sum();
            let size: f64 = pairs().map(|(_, want)| want.powi(2)).sum();
            let error = if apart == 0.0 { 0.0 } else { (apart / size).sqrt() };
            self.figure("relative error", place, error, most);
        }
    }

    /// Bytes at most one level apart.
    pub(crate) fn one_level(&mut self, place: &str, got: &Array, want: &Array) {
        if self.same_shape(place, got, want) {
            let (at, apart) = furthest(got, want, |got, want| (got - want).abs());
            let others =
                got.values.iter().zip(&want.values).filter(|(got, want)| got != want).count();
            let place =
                format!("{place}: byte {at} (and {others} of {} bytes differ)", got.values.len());
            self.figure("levels", &place, apart, 1.0);
        }
    }

    /// Prints the worst figures; panics with every failure.
    pub(crate) fn finish(self) {
        println!("{}: {} comparisons", self.title, self.compared);
        for (kind, (figure, place)) in &self.worst {
            println!("    worst {kind}: {figure:.3e} at {place}");
        }
        let shown = self.failures.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n  ");
        assert!(
            self.failures.is_empty(),
            "{}: {} of {} comparisons failed:\n  {shown}",
            self.title,
            self.failures.len(),
            self.compared
        );
        assert!(self.compared > 0, "{}: nothing was compared", self.title);
    }
}

/// The place of the largest figure, and the figure.
fn furthest(got: &Array, want: &Array, apart: impl Fn(f64, f64) -> f64) -> (usize, f64) {
    let figures = got.values.iter().zip(&want.values).map(|(got, want)| apart(*got, *want));
    figures.enumerate().fold((0, 0.0), |worst, (at, figure)| {
        if figure > worst.1 || figure.is_nan() { (at, figure) } else { worst }
    })
}
