//! Budgets: how often a principal may do something, over all its connections. What is refused does not count.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use roundtable_core::engine::Decision;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::Principal;
use roundtable_core::state::State;
use roundtable_core::time::Time;
use roundtable_dialects::session::{Ask, Budget};

use crate::runner::batch::Gate;
use crate::runner::quotas::{Quotas, Written};

/// Sliding windows by principal and class. Memory is bounded by what the budgets allow and freed as windows pass.
#[derive(Debug, Default)]
pub struct Budgets {
    spent: HashMap<(Principal, &'static str), VecDeque<Time>>,
    swept_at: Time,
    quotas: Arc<ArcSwap<Quotas>>,
    written: Written,
}

/// What was taken from budgets and quotas and can be given back.
#[derive(Debug, Default)]
pub struct Paid {
    budgets: Vec<(Principal, Budget)>,
    written: Vec<(Principal, u64)>,
}

impl Budgets {
    /// Nothing is spent yet.
    pub fn new(quotas: Arc<ArcSwap<Quotas>>) -> Self {
        Self { quotas, ..Self::default() }
    }

    /// A batch is decided at `now`.
    pub fn till(&mut self, now: Time) -> Till<'_> {
        Till { quotas: self.quotas.load_full(), budgets: self, now, paid: Paid::default() }
    }

    /// Spends one from a budget. Fails with `RateLimited` and says when there is room again; a failure spends nothing.
    pub fn spend(&mut self, who: &Principal, budget: Budget, now: Time) -> Result<(), Error> {
        self.sweep(now, budget.window_ms);
        let window = i64::from(budget.window_ms);
        let spent = self.spent.entry((who.clone(), budget.class)).or_default();
        while spent.front().is_some_and(|at| now.since(*at) >= window) {
            spent.pop_front();
        }
        if let (Some(oldest), true) = (spent.front(), spent.len() >= budget.most as usize) {
            let wait = window.saturating_sub(now.since(*oldest)).max(1);
            let message =
                format!("more than {} {} in {} s", budget.most, budget.class, budget.window_ms / 1000);
            let mut error = Error::new(ErrorKind::RateLimited, message);
            error.retry_after_ms = u64::try_from(wait).ok();
            error.limit = Some(budget.most);
            return Err(error);
        }
        spent.push_back(now);
        Ok(())
    }

    /// Gives back what was paid for nothing.
    pub fn pay_back(&mut self, paid: Paid) {
        for (who, budget) in paid.budgets {
            self.give_back(&who, budget);
        }
        for (who, bytes) in paid.written {
            self.written.give_back(&who, bytes);
        }
    }

    /// Gives back what was spent last: what it was for did not happen.
    fn give_back(&mut self, who: &Principal, budget: Budget) {
        if let Some(spent) = self.spent.get_mut(&(who.clone(), budget.class)) {
            spent.pop_back();
        }
    }

    /// Now and then forgets those who have been quiet for two windows.
    fn sweep(&mut self, now: Time, window_ms: u32) {
        let span = 2 * i64::from(window_ms);
        if now.since(self.swept_at) > span {
            self.spent.retain(|_, spent| spent.back().is_some_and(|at| now.since(*at) <= span));
            self.swept_at = now;
        }
    }
}

/// The budgets as one batch meets them: each question pays before it is decided, and is paid back if the engine refuses it.
pub struct Till<'a> {
    budgets: &'a mut Budgets,
    quotas: Arc<Quotas>,
    now: Time,
    /// What was paid in this round: it is given back if the batch is decided again or comes to nothing.
    pub paid: Paid,
}

impl Gate for Till<'_> {
    fn enter(&mut self, ask: &Ask, actor: &Principal) -> Result<(), Error> {
        let Some(budget) = ask.budget else { return Ok(()) };
        self.budgets.spend(actor, budget, self.now)?;
        self.paid.budgets.push((actor.clone(), budget));
        Ok(())
    }

    fn writes(&mut self, actor: &Principal, decision: &Decision, state: &State) -> Result<(), Error> {
        self.quotas.ceilings.admit((state, self.now), actor, decision)?;
        let bytes = self.budgets.written.admit(&self.quotas, (actor, decision), (state.bytes, self.now))?;
        if bytes > 0 {
            self.paid.written.push((actor.clone(), bytes));
        }
        Ok(())
    }

    fn refused(&mut self, ask: &Ask) {
        if ask.budget.is_some()
            && let Some((who, budget)) = self.paid.budgets.pop()
        {
            self.budgets.give_back(&who, budget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Budgets, Principal, Time};
    use roundtable_dialects::session::Budget;

    #[test]
    fn the_window_slides_and_refusals_are_free() {
        let budget = Budget { class: "messages", most: 2, window_ms: 60_000 };
        let (mut budgets, who) = (Budgets::default(), Principal::System);
        assert!(budgets.spend(&who, budget, Time(0)).is_ok());
        assert!(budgets.spend(&who, budget, Time(30_000)).is_ok());
        let refused = budgets.spend(&who, budget, Time(59_000)).unwrap_err();
        assert_eq!(refused.retry_after_ms, Some(1_000));
        assert!(budgets.spend(&who, budget, Time(60_000)).is_ok());
        assert!(budgets.spend(&who, budget, Time(60_001)).is_err());
        budgets.give_back(&who, budget);
        assert!(budgets.spend(&who, budget, Time(60_002)).is_ok());
        assert!(budgets.spend(&who, budget, Time(60_003)).is_err());
    }
}
