//! Twenty machines on one table, with real engines and the real rules of who goes first, over a simulated network: time is
//! paused, latencies are drawn from a seed. What the rules promise must hold with their default settings.

mod network;

use std::time::Duration;

use network::{Fleet, Latency, Presence};

const MACHINES: usize = 20;
const TASKS: usize = 80;
const SEEDS: [u64; 3] = [1, 2, 3];

/// How tasks come.
#[derive(Clone, Copy, Debug)]
enum Arrivals {
    AllAtOnce,
    /// One after the other, so far apart.
    Every(Duration),
}

const ARRIVALS: [Arrivals; 3] = [
    Arrivals::AllAtOnce,
    Arrivals::Every(Duration::from_millis(40)),
    Arrivals::Every(Duration::from_secs(3)),
];

/// Wasted claims per hundred tasks, the worst of all arrivals and seeds. Every task is completed, once.
#[expect(clippy::print_stderr, reason = "figures for people")]
async fn worst(name: &str, presence: Presence, latency: fn(usize) -> Latency) -> usize {
    let percent = |claims: usize, tasks: usize| (claims * 100).div_ceil(tasks);
    let mut worst = 0;
    for arrivals in ARRIVALS {
        let (mut claims, mut wasted, mut longest) = (0, 0, Duration::ZERO);
        for seed in SEEDS {
            let fleet = Fleet::start(seed, MACHINES, presence, latency).await;
            let gap = match arrivals {
                Arrivals::AllAtOnce => Duration::ZERO,
                Arrivals::Every(gap) => gap,
            };
            let done = fleet.work(TASKS, gap).await;
            claims += done.claims;
            wasted += done.wasted;
            longest = longest.max(done.longest_wait);
            worst = worst.max(percent(done.wasted, TASKS));
        }
        let tasks = TASKS * SEEDS.len();
        eprintln!(
            "{name}, {arrivals:?}: {} claims and {} wasted per 100 tasks, {longest:?} until the last was claimed",
            percent(claims, tasks),
            percent(wasted, tasks)
        );
    }
    worst
}

/// A project over the internet.
fn usual(_: usize) -> Latency {
    Latency {
        trip: 60..400,
        delivery: 40..300,
    }
}

/// Answers take longer than the step of the setting.
fn slow(_: usize) -> Latency {
    Latency {
        trip: 1_000..4_000,
        delivery: 200..2_000,
    }
}

/// A few machines are far away.
fn uneven(machine: usize) -> Latency {
    if machine.is_multiple_of(4) {
        slow(machine)
    } else {
        usual(machine)
    }
}

#[tokio::test(start_paused = true)]
async fn with_presence_hardly_a_claim_is_wasted() {
    let wasted = worst("usual", Presence::Right, usual).await;
    assert!(wasted <= 60, "{wasted} wasted claims per 100 tasks");
}

#[tokio::test(start_paused = true)]
async fn slow_answers_make_the_steps_longer() {
    let wasted = worst("slow", Presence::Right, slow).await;
    assert!(wasted <= 120, "{wasted} wasted claims per 100 tasks");
}

#[tokio::test(start_paused = true)]
async fn machines_far_away_waste_their_own_claims_only() {
    let wasted = worst("uneven", Presence::Right, uneven).await;
    assert!(wasted <= 120, "{wasted} wasted claims per 100 tasks");
}

/// Half of those that are shown are not there, and every machine misses a third of the others.
#[tokio::test(start_paused = true)]
async fn presence_that_lies_wastes_claims_and_nothing_else() {
    let wasted = worst("lies", Presence::Lies, usual).await;
    assert!(wasted <= 120, "{wasted} wasted claims per 100 tasks");
}

#[tokio::test(start_paused = true)]
async fn without_presence_everybody_claims_and_nothing_is_lost() {
    let wasted = worst("off", Presence::Off, usual).await;
    assert!(
        wasted <= 100 * MACHINES,
        "{wasted} wasted claims per 100 tasks"
    );
}
