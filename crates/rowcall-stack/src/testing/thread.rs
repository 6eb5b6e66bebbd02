//! Runs asynchronous work on a thread and runtime of its own.
//!
//! Two reasons: `Drop` cannot wait for a future of the test's runtime, and on a runtime with paused
//! time every time-out inside would fire at once.

use std::future::Future;

use tokio::sync::oneshot;

/// Runs the future that `make` returns, without blocking the caller's runtime.
pub(super) async fn aside<F, Fut, T>(make: F) -> T
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T>,
    T: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let worker = std::thread::spawn(move || {
        // The receiver is gone only when the test itself was cancelled.
        let _ = sender.send(block_on(make()));
    });
    match receiver.await {
        Ok(value) => value,
        Err(_) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the worker sends before it ends"),
        },
    }
}

/// The same for `Drop`, which has to block.
pub(super) fn aside_blocking<F, Fut>(make: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let worker = std::thread::spawn(move || block_on(make()));
    let cleaned = worker.join().is_ok();
    assert!(
        cleaned || std::thread::panicking(),
        "cleaning up after the test failed"
    );
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
