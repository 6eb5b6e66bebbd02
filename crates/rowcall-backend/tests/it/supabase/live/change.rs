//! What changes tell.

use rowcall_core::{
    MachineId, Payload, Signal,
    ports::{ClaimOutcome, Coordinator, Fence, Settlement, Verdict},
};

use super::{dirty, machine, numbered, project, rules};
use crate::supabase::project::Setup;

#[tokio::test]
async fn an_insert_is_signalled_and_work_on_it_is_not() {
    for setup in [Setup::Ours, Setup::Published] {
        let project = project(setup).await;
        let mut one = machine(&project, "one");
        one.up().await;
        let task = project.insert(&numbered(1)).await;
        assert_eq!(one.next().await, dirty(&task));
        let ClaimOutcome::Won(claimed) = one.backend.claim(&rules("one"), &task).await.unwrap()
        else {
            panic!("the claim should be won");
        };
        let key = claimed.lease.into_key();
        one.backend
            .mark_processing(std::slice::from_ref(&key))
            .await
            .unwrap();
        one.backend.renew(std::slice::from_ref(&key)).await.unwrap();
        let verdict = Verdict::Completed(Payload::empty_object());
        let settlement = Settlement {
            lease: key,
            verdict,
        };
        assert_eq!(
            one.backend.settle(&[settlement]).await.unwrap(),
            [Fence::Held]
        );
        // The next signal is the next task: none of the updates in between was one.
        let next = project.insert(&numbered(2)).await;
        assert_eq!(one.next().await, dirty(&next));
    }
}

#[tokio::test]
async fn a_failure_is_a_signal_for_others_only() {
    let project = project(Setup::Ours).await;
    let (mut one, mut two) = (machine(&project, "one"), machine(&project, "two"));
    one.up().await;
    two.up().await;
    let task = project.insert(&numbered(1)).await;
    for machine in [&mut one, &mut two] {
        assert_eq!(machine.next().await, dirty(&task));
    }
    let ClaimOutcome::Won(claimed) = one.backend.claim(&rules("one"), &task).await.unwrap() else {
        panic!("the claim should be won");
    };
    let verdict = Verdict::Failed {
        error: "network".to_owned(),
        retry_in: None,
    };
    let settlement = Settlement {
        lease: claimed.lease.into_key(),
        verdict,
    };
    assert_eq!(
        one.backend.settle(&[settlement]).await.unwrap(),
        [Fence::Held]
    );
    one.backend
        .announce_retry(std::slice::from_ref(&task))
        .await
        .unwrap();
    // Two hears of it twice, from the row and from the broadcast; each alone would do.
    let available = Signal::Available {
        task: task.clone(),
        failed_by: Some(MachineId::new("one").unwrap()),
    };
    let mut heard = vec![two.next().await, two.next().await];
    heard.sort_by_key(|signal| *signal != available);
    assert_eq!(heard, [available, dirty(&task)]);
    let next = project.insert(&numbered(2)).await;
    assert_eq!(
        one.next().await,
        dirty(&next),
        "one heard of its own failure"
    );
}
