//! The part of the fold that is about alerts and the thresholds that users set.

use super::State;
use crate::alerts::Alert;
use crate::event::{Event, Record};
use crate::holdings::Thing;
use crate::limits;

impl State {
    pub(super) fn apply_alert(&mut self, record: &Record) {
        match &record.event {
            Event::AlertRaised(e) => {
                self.alerts
                    .insert(e.source.clone(), Alert { raised: e.clone(), at: record.at, acknowledged: None });
            }
            Event::AlertAcknowledged(e) => {
                if let Some(alert) = self.alerts.get_mut(&e.source) {
                    alert.acknowledged = Some(e.by.clone());
                }
            }
            Event::AlertCleared(e) => {
                let Some(alert) = self.alerts.remove(&e.source) else { return };
                self.ended_alerts.push_back((alert, record.at));
                if self.ended_alerts.len() > limits::MAX_ENDED_ALERTS {
                    self.ended_alerts.pop_front();
                }
            }
            Event::ThresholdSet(e) => {
                self.thresholds.insert(e.id.clone(), e.clone());
            }
            Event::ThresholdRemoved(e) => {
                self.thresholds.remove(&e.id);
                self.holdings.remove(&Thing::Threshold(e.id.clone()));
            }
            _ => {}
        }
    }
}
