//! Who goes first, when many machines hear of one task.
//!
//! With N machines on one table, all of them claim at once and N−1 claims are wasted. Machines know each other from presence,
//! so they can agree without talking: each ranks all of them by a hash of task and machine, the first claims at once, the
//! others wait a little longer the further behind they are, and look whether the task is still open before they claim. How much
//! longer follows from how long claims take ([`Pace`]); [`Turns`] keeps what waits.
//!
//! Nothing depends on it being right. When presence lies, two machines may both be first (one claim is wasted) or nobody may
//! be (the second claims a moment later, and whatever is left the sweep finds).

mod pace;
mod turns;

use std::{cmp::Reverse, time::Duration};

pub use pace::{MAX_STEP, Pace};
pub use turns::{MAX_WAITING, Turns};

use crate::id::{MachineId, TaskRef};

/// The rank of `me` for a task among the machines that are present: 0 claims first. Whether `me` is listed makes no difference.
///
/// ```
/// use rowcall_core::{MachineId, TableName, TaskRef, dispersal};
///
/// let machines: Vec<MachineId> = ["a", "b", "c"].map(|id| MachineId::new(id).unwrap()).into();
/// let task = TaskRef { table: TableName::activities(), id: "42".parse().unwrap() };
/// let mut ranks: Vec<usize> = machines.iter().map(|me| dispersal::rank(&task, me, &machines)).collect();
/// ranks.sort_unstable();
/// assert_eq!(ranks, [0, 1, 2]);
/// ```
pub fn rank<'a>(
    task: &TaskRef,
    me: &MachineId,
    present: impl IntoIterator<Item = &'a MachineId>,
) -> usize {
    let seed = hash(OFFSET, task.to_string().as_bytes());
    let key = |machine: &MachineId| {
        let score = mix(hash(seed, machine.as_str().as_bytes()));
        // Equal scores, which nobody will see, are ordered by name.
        (Reverse(score), machine.as_str().to_owned())
    };
    let mine = key(me);
    present
        .into_iter()
        .filter(|other| key(other) < mine)
        .count()
}

/// How long a machine waits before it claims what it was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispersal {
    /// The head start of each rank over the next, at least. It grows where claims take longer.
    pub step: Duration,
    /// The longest wait, about; nobody waits at all when it is zero.
    pub cap: Duration,
}

impl Default for Dispersal {
    /// A claim over REST takes some hundred milliseconds, after which the others see that the task is taken. Whoever waits for
    /// the whole cap is behind many machines of which none has claimed.
    fn default() -> Self {
        Self {
            step: Duration::from_millis(750),
            cap: Duration::from_secs(30),
        }
    }
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, the same on every platform and in every version, with a separator at the end.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().chain(&[0xff]).fold(seed, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of splitmix64: FNV alone leaves the high bits of similar texts similar.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::table::TableName;

    fn machines(count: usize) -> Vec<MachineId> {
        let machine = |n| MachineId::new(format!("machine-{n}")).unwrap();
        (0..count).map(machine).collect()
    }

    fn task(number: u128) -> TaskRef {
        TaskRef {
            table: TableName::activities(),
            id: Uuid::from_u128(number).into(),
        }
    }

    #[test]
    fn tasks_are_spread_evenly() {
        let machines = machines(20);
        let mut first = vec![0_u32; machines.len()];
        for number in 0..10_000 {
            for (index, me) in machines.iter().enumerate() {
                if rank(&task(number), me, &machines) == 0 {
                    first[index] += 1;
                }
            }
        }
        assert_eq!(first.iter().sum::<u32>(), 10_000);
        assert!(
            first.iter().all(|count| (400..600).contains(count)),
            "{first:?}"
        );
    }

    #[test]
    fn a_machine_that_leaves_moves_only_its_own_tasks() {
        let all = machines(10);
        let (gone, rest) = all.split_last().unwrap();
        let first = |task: &TaskRef, present: &[MachineId]| {
            let is_first = |me: &&MachineId| rank(task, me, present) == 0;
            present.iter().find(is_first).cloned().unwrap()
        };
        for number in 0..500 {
            let task = task(number);
            let before = first(&task, &all);
            if before != *gone {
                assert_eq!(first(&task, rest), before);
            }
        }
    }

    proptest! {
        #[test]
        fn ranks_are_a_permutation(count in 1_usize..30, number: u128) {
            let machines = machines(count);
            let mut ranks: Vec<usize> =
                machines.iter().map(|me| rank(&task(number), me, &machines)).collect();
            ranks.sort_unstable();
            prop_assert_eq!(ranks, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn who_is_not_listed_ranks_as_if_it_were(count in 0_usize..10, number: u128) {
            let me = MachineId::new("me").unwrap();
            let mut machines = machines(count);
            let unlisted = rank(&task(number), &me, &machines);
            machines.push(me.clone());
            prop_assert_eq!(rank(&task(number), &me, &machines), unlisted);
        }
    }
}
