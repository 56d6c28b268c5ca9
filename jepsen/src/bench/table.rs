//! What was measured, as a table for people and as JSON for programs.

use super::failover::ELECTIONS;
use super::meter::Sample;
use crate::trouble::{About, Told};
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::Path;

/// A ratio with what is aimed at, and what must not be missed.
struct Ratio {
    name: &'static str,
    value: f64,
    aim: f64,
    floor: f64,
}

/// Everything that was measured so far.
#[derive(Default)]
pub struct Results {
    samples: Vec<(String, Sample)>,
    figures: Vec<(String, f64, &'static str)>,
    ratios: Vec<Ratio>,
}

impl Results {
    /// Adds a measurement.
    pub fn add(&mut self, name: &str, sample: Sample) {
        self.samples.push((name.to_owned(), sample));
    }

    /// Adds a single figure with its unit.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push((name.into(), value, unit));
    }

    /// The measurement of that name.
    pub fn sample(&self, name: &str) -> Option<&Sample> {
        self.samples.iter().find(|(other, _)| other == name).map(|(_, sample)| sample)
    }

    /// Adds a ratio of two figures, where both are there. A floor above the aim is one that smaller is better than.
    pub fn ratio(&mut self, name: &'static str, of: Option<f64>, to: Option<f64>, aim: f64, floor: f64) {
        if let (Some(of), Some(to)) = (of, to)
            && to > 0.0
        {
            self.ratios.push(Ratio { name, value: of / to, aim, floor });
        }
    }

    /// Names of the ratios that miss their floor.
    pub fn missed(&self) -> Vec<&'static str> {
        self.ratios.iter().filter(|ratio| !ratio.holds(ratio.floor)).map(|ratio| ratio.name).collect()
    }

    /// Writes everything as JSON.
    pub fn write(&self, file: &Path) -> Told<()> {
        let samples: Map<String, Value> =
            self.samples.iter().map(|(name, sample)| (name.clone(), json!(sample))).collect();
        let figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|(name, value, unit)| (name.clone(), json!({ "value": value, "unit": unit })))
            .collect();
        let ratios: Map<String, Value> = self
            .ratios
            .iter()
            .map(|r| (r.name.to_owned(), json!({ "value": r.value, "aim": r.aim, "floor": r.floor })))
            .collect();
        let all = json!({ "setting": setting(), "samples": samples, "figures": figures, "ratios": ratios });
        std::fs::write(file, format!("{all:#}\n")).about(file.display())
    }
}

/// What the figures depend on beside the code.
fn setting() -> Value {
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "assertions": cfg!(debug_assertions),
        "elections": ELECTIONS,
    })
}

impl Ratio {
    fn holds(&self, bound: f64) -> bool {
        if self.floor > self.aim { self.value <= bound } else { self.value >= bound }
    }

    fn verdict(&self) -> &'static str {
        match (self.holds(self.aim), self.holds(self.floor)) {
            (true, _) => "as aimed at",
            (false, true) => "above the floor",
            (false, false) => "BELOW THE FLOOR",
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<58} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "a second", "p50 us", "p99 us", "CPU us", "asked's")?;
        for (name, s) in &self.samples {
            writeln!(
                f,
                "{name:<58} {:>9.0} {:>9.0} {:>9.0} {:>9.1} {:>9.1}",
                s.rate, s.p50_us, s.p99_us, s.cpu_us, s.target_cpu_us
            )?;
        }
        for (name, value, unit) in &self.figures {
            writeln!(f, "{name:<58} {value:>9.2} {unit}")?;
        }
        for r in &self.ratios {
            writeln!(f, "{:<58} {:>9.2} aim {}, floor {}: {}", r.name, r.value, r.aim, r.floor, r.verdict())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_held_against_aim_and_floor_whichever_way_is_better() {
        let mut results = Results::default();
        results.ratio("more", Some(0.7), Some(1.0), 0.8, 0.6);
        results.ratio("less", Some(0.7), Some(1.0), 0.5, 1.0);
        results.ratio("too little", Some(0.5), Some(1.0), 0.8, 0.6);
        results.ratio("too much", Some(1.5), Some(1.0), 0.5, 1.0);
        results.ratio("unknown", None, Some(1.0), 0.5, 1.0);
        assert_eq!(results.missed(), ["too little", "too much"]);
        assert!(results.to_string().contains("above the floor"));
    }
}
