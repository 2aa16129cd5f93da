//! The simulation: seeded worlds of agents, users and guests on the real runner, with power cuts, lost writes and full disks.
//!
//! The promises of the README are checked after every step. A seed that breaks one is printed, and
//! `ROUNDTABLE_SEED=<seed> cargo test -p roundtable --test simulation` plays it again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "simulation/commands.rs"]
mod commands;
#[path = "simulation/faulty.rs"]
mod faulty;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use faulty::Fault;
use world::World;

const SEEDS: u64 = 2_000;
const STEPS: usize = 60;

/// Plays a world; gives what was broken, if anything was.
fn play(seed: u64, fault: Fault) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(World::play(seed, fault, STEPS))));
    played.map_err(|broken| {
        let text = broken.downcast_ref::<String>().cloned();
        text.or_else(|| broken.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

#[test]
fn every_promise_holds_in_every_world() {
    if let Some(seed) = std::env::var("ROUNDTABLE_SEED").ok().and_then(|text| text.parse().ok()) {
        play(seed, Fault::None).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        return;
    }
    let next = std::sync::atomic::AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    if let Err(broken) = play(seed, Fault::None) {
                        next.store(SEEDS, std::sync::atomic::Ordering::Relaxed);
                        panic!("ROUNDTABLE_SEED={seed} breaks: {broken}");
                    }
                }
            });
        }
    });
}

#[test]
fn a_log_with_any_fault_is_found_out() {
    std::panic::set_hook(Box::new(|_| {}));
    let found = Fault::ALL.map(|fault| (fault, (0..240).find_map(|seed| play(seed, fault).err())));
    let _ = std::panic::take_hook();
    for (fault, broken) in found {
        println!("{fault:?}: {broken:?}");
        let broken = broken.unwrap_or_else(|| panic!("{fault:?} goes unnoticed"));
        assert!(!broken.is_empty());
    }
}
