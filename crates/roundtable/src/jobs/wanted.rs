//! Thresholds that users set: each is looked at with every sample, and raises or clears its own alert.

use std::collections::HashMap;

use roundtable_core::alerts::AlertRaised;
use roundtable_core::command::Command;
use roundtable_core::ids::{AlertId, WorkspaceId};
use roundtable_core::json::Json;
use roundtable_core::state::State;
use roundtable_core::thresholds::{Side, Threshold};
use roundtable_core::time::Time;
use roundtable_dialects::figures::Figures;

use super::put;
use crate::clock;
use crate::runner::Handle;

/// An alert ends when so many samples on end are well: a value at the edge shall not flicker.
const WELL_SAMPLES: u32 = 2;

/// How one threshold stands.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// Since when the value is beyond the limit.
    since: Option<Time>,
    /// Samples on end that were not.
    well: u32,
}

/// How all of them stand. After a restart a limit has to be crossed for its whole time again, but what is raised stays so.
#[derive(Default)]
pub struct Wanted(HashMap<(WorkspaceId, AlertId), Standing>);

impl Wanted {
    /// Looks at the thresholds of a workspace with a new sample.
    pub fn look(&mut self, figures: &Figures, handle: &Handle) {
        let state = &handle.view().state;
        for command in self.commands((figures, clock::steady()), handle.workspace(), state) {
            put(handle, command);
        }
    }

    fn commands(
        &mut self,
        (figures, now): (&Figures, Time),
        workspace: &WorkspaceId,
        state: &State,
    ) -> Vec<Command> {
        self.0.retain(|(of, id), _| of != workspace || state.threshold(id).is_some());
        let mut commands = Vec::new();
        for wanted in state.thresholds() {
            let Some(value) = figures.value_of(&wanted.metric) else { continue };
            let standing = self.0.entry((workspace.clone(), wanted.id.clone())).or_default();
            let active = state.alert(&wanted.source()).is_some();
            commands.extend(standing.look(wanted, active, (value, now)));
        }
        commands
    }
}

impl Standing {
    fn look(&mut self, wanted: &Threshold, active: bool, (value, at): (f64, Time)) -> Option<Command> {
        if !wanted.side.holds(value, wanted.limit) {
            self.since = None;
            self.well = self.well.saturating_add(1);
            let ends = active && self.well >= WELL_SAMPLES;
            return ends.then(|| Command::ClearAlert(wanted.source()));
        }
        self.well = 0;
        let lasted = at.since(*self.since.get_or_insert(at)).max(0);
        (!active && lasted >= wanted.lasting_ms).then(|| Command::RaiseAlert(alert(wanted, value, lasted)))
    }
}

fn alert(wanted: &Threshold, value: f64, lasted: i64) -> AlertRaised {
    let (side, trend) = match wanted.side {
        Side::Above => ("above", "increasing"),
        Side::AtLeast => ("at or above", "increasing"),
        Side::Below => ("below", "decreasing"),
        Side::AtMost => ("at or below", "decreasing"),
    };
    let metric = &wanted.metric;
    let details = serde_json::json!({
        "error": "threshold_crossed",
        "affected_components": [metric],
        "metric": metric,
        "trend": trend,
        "threshold_id": wanted.id.as_str(),
        "duration_seconds": lasted / 1000,
        "channels": wanted.channels,
    });
    AlertRaised {
        feed: None,
        alert: AlertId::fresh(clock::now(), clock::random_u64()),
        source: wanted.source(),
        level: wanted.level,
        title: wanted.name.clone(),
        message: format!("{metric} is at {value:.1}, {side} {}", wanted.limit),
        value: Some(value),
        threshold: Some(wanted.limit),
        details: Json::from(&details),
    }
}

#[cfg(test)]
mod tests {
    use roundtable_core::alerts::Level;

    use super::*;

    #[test]
    fn an_alert_is_raised_after_its_time_and_ends_after_two_well_samples() {
        let wanted = Threshold {
            id: AlertId::new("t").unwrap(),
            name: "Busy".into(),
            metric: "cpu_usage".into(),
            side: Side::AtLeast,
            limit: 50.0,
            lasting_ms: 10_000,
            level: Level::Critical,
            channels: vec![],
        };
        let mut standing = Standing::default();
        let mut look = |active, value, at| standing.look(&wanted, active, (value, Time(at)));
        assert_eq!(look(false, 60.0, 0), None);
        assert_eq!(look(false, 40.0, 5_000), None, "the time begins anew");
        assert_eq!(look(false, 50.0, 10_000), None);
        assert_eq!(look(false, 99.0, 15_000), None);
        let raised = look(false, 55.0, 20_000);
        let Some(Command::RaiseAlert(alert)) = raised else { panic!("{raised:?}") };
        assert_eq!(
            (alert.source.as_str(), alert.level, alert.value),
            ("threshold:t", Level::Critical, Some(55.0))
        );
        assert_eq!(alert.message, "cpu_usage is at 55.0, at or above 50");
        assert!(alert.details.as_str().contains("\"duration_seconds\":10"));
        assert_eq!(look(true, 55.0, 25_000), None, "once is enough");
        assert_eq!(look(true, 40.0, 30_000), None);
        assert_eq!(look(true, 55.0, 35_000), None);
        assert_eq!(look(true, 40.0, 40_000), None);
        assert_eq!(look(true, 40.0, 45_000), Some(Command::ClearAlert("threshold:t".into())));
    }
}
