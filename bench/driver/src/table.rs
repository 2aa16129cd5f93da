//! The figures as Markdown: what machine, which goals, and a table per row with ratios.
use crate::Plan;
use crate::contender::Contender;
use crate::goals;
use crate::measure::{Figures, Measured};
use crate::prepare::Tools;
use std::fmt::Write;
use std::fs;

pub fn markdown(plan: &Plan, tools: &Tools, descriptors: u64, rows: &[Measured]) -> String {
    let mut out = String::from("# Roundtable beside its peers\n\n");
    out.push_str(&machine(plan, tools, descriptors));
    let goals = goals::lines(rows);
    if !goals.is_empty() {
        out.push_str("## Goals\n\n| what | goal | measured | |\n| --- | --- | --- | --- |\n");
        out.push_str(&goals.join("\n"));
        out.push_str("\n\n");
    }
    for m in rows {
        row(&mut out, m);
    }
    out
}

fn machine(plan: &Plan, tools: &Tools, descriptors: u64) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pinned = plan.pin && tools.taskset && cores > 1;
    format!(
        "{cores} processors ({model}), Linux {}, {descriptors} descriptors at most; load average {} before the run. \
         {} repetition(s) of {} s, medians; the servers took turns. {} \
         150-byte messages; a message is under way until its sender has its own copy (MegaBot: until one observer has \
         it); it joined its room {}. Absolute figures mean little; ratios within one run do.\n\n",
        read("/proc/sys/kernel/osrelease").trim(),
        plan.load_before.split(' ').next().unwrap_or_default(),
        plan.repeat,
        plan.seconds,
        if pinned {
            "For fan-out the generator had the last processor and every server the others."
        } else {
            "Servers and generator shared the processors."
        },
        if plan.sender_at == "middle" { "in the middle" } else { &plan.sender_at },
    )
}

fn row(out: &mut String, m: &Measured) {
    let (figure, less) = m.row.compare;
    let of = |c: Contender| {
        let outcome = m.outcomes.iter().find(|o| o.server == c)?;
        outcome.figures.as_ref().ok()?.get(figure).copied()
    };
    let ours: Vec<(Contender, f64)> = m
        .row
        .servers
        .iter()
        .filter(|s| matches!(s, Contender::Roundtable { .. }))
        .filter_map(|s| Some((*s, of(*s)?)))
        .collect();
    let _ = writeln!(out, "## {}\n", m.row.title);
    let mut heading: Vec<String> = vec!["server".into()];
    heading.extend(m.row.columns.iter().map(|(_, h)| (*h).into()));
    heading.extend(ours.iter().map(|(s, _)| format!("{} / it", s.name())));
    let _ = writeln!(out, "| {} |\n|{}", heading.join(" | "), " --- |".repeat(heading.len()));
    for o in &m.outcomes {
        let cells: Vec<String> = match &o.figures {
            Err(e) => vec![format!("failed: {}", e.replace('|', "/").replace('\n', " "))],
            Ok(f) => m.row.columns.iter().map(|(c, _)| cell(f, c)).chain(ratios(f, figure, &ours)).collect(),
        };
        let _ = writeln!(out, "| {} | {} |", o.server.name(), cells.join(" | "));
    }
    if !ours.is_empty() {
        let better = if less { "below" } else { "above" };
        let _ = writeln!(out, "\nRatios compare the first figure; {better} 1 Roundtable is ahead.");
    }
    out.push('\n');
}

fn ratios<'a>(
    f: &'a Figures,
    figure: &'a str,
    ours: &'a [(Contender, f64)],
) -> impl Iterator<Item = String> + 'a {
    ours.iter()
        .map(move |(_, value)| f.get(figure).map_or("".into(), |other| format!("{:.2}", value / other)))
}

fn cell(f: &Figures, name: &str) -> String {
    match f.get(name) {
        None => String::new(),
        Some(v) if name.ends_with("_share") => format!("{:.0} %", v * 100.0),
        Some(v) if *v >= 1_000.0 => thousands(*v),
        Some(v) if *v >= 100.0 => format!("{v:.0}"),
        Some(v) => format!("{v:.2}"),
    }
}

fn thousands(v: f64) -> String {
    let digits = format!("{v:.0}");
    let mut text = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(d);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn digits_come_in_groups() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(1_000.0), "1,000");
    }
}
