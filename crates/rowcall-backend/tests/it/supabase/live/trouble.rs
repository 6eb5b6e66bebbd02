//! Wires that are cut, and tables that are not published.

use std::time::Duration;

use futures_util::StreamExt;
use rowcall_core::{Signal, ports::Coordinator};
use tokio::time::timeout;

use super::{Machine, configure, dirty, numbered, project, selector};
use crate::supabase::project::Setup;
use crate::supabase::proxy::{Proxy, Wire};

#[tokio::test]
async fn a_cut_wire_is_down_and_comes_up_again() {
    let project = project(Setup::Ours).await;
    let proxy = Proxy::to(project.stack.addresses()[0]).await;
    let mut config = configure(&project, "one");
    config.url = proxy.url();
    let mut one = Machine::start(config);
    one.up().await;
    proxy.set(Wire::Cut);
    let down = one
        .wait_for(|signal| matches!(signal, Signal::Down { .. }))
        .await;
    let missed = project.insert(&numbered(1)).await;
    proxy.set(Wire::Open);
    one.up().await;
    assert!(matches!(down, Signal::Down { reason, .. } if reason.contains("rtx_activities")));
    // What happened while the wire was cut is found by looking, whether or not the server tells of it again.
    let found = one
        .backend
        .sweep(&[selector("public.rtx_activities")], None, 50)
        .await
        .unwrap();
    assert_eq!(found[0].task.task, missed);
}

#[tokio::test]
async fn one_table_that_is_not_published_does_not_silence_the_others() {
    let project = project(Setup::Ours).await;
    let make = "create table hidden (id int primary key, status text, locked_by text, locked_at timestamptz);
                grant all on hidden to service_role; notify pgrst, 'reload schema'";
    project.client.batch_execute(make).await.unwrap();
    let mut config = configure(&project, "one");
    config.selectors.push(selector("public.hidden"));
    let mut one = Machine::start(config);
    let down = one
        .wait_for(|signal| matches!(signal, Signal::Down { reason, .. } if reason.contains("public.hidden")))
        .await;
    assert!(matches!(down, Signal::Down { reason, .. } if reason.contains("Unable to subscribe")));
    let task = project.insert(&numbered(1)).await;
    one.wait_for(|signal| *signal == dirty(&task)).await;
    let publish = "alter publication supabase_realtime add table hidden";
    project.client.batch_execute(publish).await.unwrap();
    // Up, and not down again at once: the last channel that was down has come up.
    loop {
        one.up().await;
        if timeout(Duration::from_millis(50), one.signals.next())
            .await
            .is_err()
        {
            break;
        }
    }
}
