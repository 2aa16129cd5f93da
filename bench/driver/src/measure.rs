//! Runs the rows: the servers take turns within each repetition, and the median of each figure is kept.
use crate::child;
use crate::contender::{Contender, PREFIX, Setting, Started, pinned};
use crate::prepare::Tools;
use crate::rows::Row;
use crate::{Plan, rows};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// Figures by name.
pub type Figures = BTreeMap<String, f64>;

/// What came out for one server in one row.
pub struct Outcome {
    pub server: Contender,
    /// Medians, or why there are none.
    pub figures: Result<Figures, String>,
}

pub struct Measured {
    pub row: Row,
    pub outcomes: Vec<Outcome>,
}

/// Beyond its own seconds a load may take this long: opening thousands of connections, and waiting for what is lost.
const PATIENCE: Duration = Duration::from_secs(240);

/// All rows, and whether every measurement succeeded.
pub fn all(plan: &Plan, tools: &Tools) -> Result<(Vec<Measured>, bool), String> {
    let mut measured = Vec::new();
    for mut row in rows::all(plan) {
        row.servers.retain(|s| s.available(tools));
        let mut results: Vec<Vec<Result<Figures, String>>> = row.servers.iter().map(|_| Vec::new()).collect();
        for turn in 1..=row.repeat {
            for (server, results) in row.servers.iter().zip(&mut results) {
                child::go_on()?;
                let result = one(plan, tools, &row, *server);
                eprintln!("{} {turn}/{} {}: {}", row.id, row.repeat, server.name(), brief(&row, &result));
                results.push(result);
            }
        }
        let outcomes = row
            .servers
            .iter()
            .zip(results)
            .map(|(server, r)| Outcome { server: *server, figures: median(r) });
        measured.push(Measured { outcomes: outcomes.collect(), row });
    }
    child::go_on()?;
    let complete = measured.iter().flat_map(|m| &m.outcomes).all(|o| o.figures.is_ok());
    Ok((measured, complete))
}

fn brief(row: &Row, result: &Result<Figures, String>) -> String {
    match result {
        Ok(f) => format!("{} {:.2}", row.compare.0, f.get(row.compare.0).copied().unwrap_or(f64::NAN)),
        Err(e) => format!("FAILED {e}"),
    }
}

fn one(plan: &Plan, tools: &Tools, row: &Row, server: Contender) -> Result<Figures, String> {
    if let Contender::Sqlite { batch } = server {
        return sqlite(plan, tools, batch);
    }
    let (server_cpus, own_cpu) =
        if row.pin && plan.pin && tools.taskset { processors() } else { (None, None) };
    let setting = Setting { rooms: row.rooms, recovery: row.recovery, cpus: server_cpus.as_deref() };
    let mut started = server.start(tools, &setting)?;
    let loaded = load(plan, tools, row, server, &mut started, own_cpu.as_deref());
    // That the server died is a better reason than what its clients saw of it.
    started.process.alive()?;
    loaded
}

/// The last processor for the generator, the others for the server; nothing where there is only one.
fn processors() -> (Option<String>, Option<String>) {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        0 | 1 => (None, None),
        2 => (Some("0".into()), Some("1".into())),
        n => (Some(format!("0-{}", n - 2)), Some((n - 1).to_string())),
    }
}

fn load(
    plan: &Plan,
    tools: &Tools,
    row: &Row,
    server: Contender,
    started: &mut Started,
    cpu: Option<&str>,
) -> Result<Figures, String> {
    let mut command = pinned(&tools.built.join("bench-load"), cpu);
    command.args(["--addr", &started.addr, "--protocol", server.protocol(), "--room-prefix", PREFIX]);
    command.args(["--pid", &started.process.pid().to_string()]);
    if let Some(auth) = &started.auth {
        command.args(["--auth", auth]);
    }
    if row.id.starts_with("fanout") {
        // Enough different members to be a real room, few enough that joining does not tell everybody of everybody.
        command.args(["--identities", "100"]);
    }
    command.args(&row.load);
    let (mut away, limit) = (None, PATIENCE + Duration::from_secs_f64(plan.seconds));
    let text = child::conversation("bench-load", command, limit, || {
        away = Some(started.crash()?);
        Ok(started.process.pid().to_string())
    })?;
    let mut figures = figures(&text)?;
    figures.extend(away.map(|a| ("away_s".to_string(), a.as_secs_f64())));
    Ok(figures)
}

fn sqlite(plan: &Plan, tools: &Tools, batch: usize) -> Result<Figures, String> {
    let mut command = Command::new(tools.built.join("bench-sqlite"));
    command.arg("--dir").arg(&tools.dir).args(["--batch", &batch.to_string()]);
    command.args(["--seconds", &plan.seconds.to_string()]);
    let all = figures(&child::output("bench-sqlite", command, PATIENCE)?)?;
    Ok(all.into_values().map(|v| ("acks_per_s".to_string(), v)).collect())
}

fn figures(json: &str) -> Result<Figures, String> {
    let value: Value = serde_json::from_str(json).map_err(|e| format!("figures: {e}"))?;
    let object = value.as_object().ok_or("figures: not an object")?;
    Ok(object.iter().filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect())
}

/// The median of each figure; failed repetitions do not count unless all failed.
fn median(results: Vec<Result<Figures, String>>) -> Result<Figures, String> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut failure = String::from("not measured");
    for result in results {
        match result {
            Ok(figures) => figures.into_iter().for_each(|(k, v)| values.entry(k).or_default().push(v)),
            Err(e) => failure = e,
        }
    }
    if values.is_empty() {
        return Err(failure);
    }
    Ok(values.into_iter().map(|(k, v)| (k, middle(v))).collect())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n.is_multiple_of(2) { (values[n / 2 - 1] + values[n / 2]) / 2.0 } else { values[n / 2] }
}

#[cfg(test)]
mod tests {
    use super::{figures, median, middle};

    #[test]
    fn the_middle_value_counts() {
        assert_eq!(middle(vec![9.0, 1.0, 3.0]), 3.0);
        assert_eq!(middle(vec![4.0, 1.0]), 2.5);
    }

    #[test]
    fn one_good_repetition_is_enough() {
        let good = figures("{\"a\":2.0,\"b\":null}").unwrap();
        let kept = median(vec![Err("stalled".into()), Ok(good)]).unwrap();
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), [("a".to_string(), 2.0)]);
        assert_eq!(median(vec![Err("stalled".into())]), Err("stalled".into()));
    }
}
