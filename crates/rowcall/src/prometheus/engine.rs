//! What the engine counts.

use rowcall_engine::EngineStatus;

use super::Page;

/// Writes what the engine counts.
pub(crate) fn engine(page: &mut Page, status: &EngineStatus) {
    let counters = status.counters;
    page.family(
        "rowcall_tasks_total",
        "counter",
        "Attempts by how they ended.",
    );
    for (outcome, count) in [
        ("completed", counters.completed),
        ("failed", counters.failed),
        ("canceled", counters.canceled),
        ("released", counters.released),
        ("fenced", counters.fenced),
    ] {
        page.value("rowcall_tasks_total", &[("outcome", outcome)], count);
    }
    for (name, help, count) in [
        ("rowcall_claims_total", "Tasks claimed.", counters.claimed),
        ("rowcall_signals_total", "Signals heard.", counters.signals),
        (
            "rowcall_needs_attention_total",
            "Tasks whose failures reached the limit.",
            counters.needs_attention,
        ),
        (
            "rowcall_recovered_total",
            "Stale leases returned to pending.",
            counters.recovered,
        ),
        (
            "rowcall_reports_total",
            "Reports from outside.",
            counters.reports,
        ),
        (
            "rowcall_source_calls_total",
            "Calls to sources.",
            counters.calls,
        ),
        (
            "rowcall_source_calls_failed_total",
            "Calls to sources that failed.",
            counters.failed_calls,
        ),
        (
            "rowcall_runner_panics_total",
            "Runners that panicked.",
            counters.panics,
        ),
        (
            "rowcall_log_lines_dropped_total",
            "Log lines the store had no room for.",
            counters.log_lines_dropped,
        ),
    ] {
        page.family(name, "counter", help);
        page.value(name, &[], count);
    }
    page.family("rowcall_slots", "gauge", "How many tasks may run at once.");
    page.value("rowcall_slots", &[], u64::from(status.slots));
    page.family("rowcall_slots_used", "gauge", "How many tasks run.");
    page.value("rowcall_slots_used", &[], u64::from(status.slots_used));
    page.family(
        "rowcall_app_slots_used",
        "gauge",
        "How many tasks of an app run.",
    );
    for app in &status.apps {
        page.value(
            "rowcall_app_slots_used",
            &[("app", app.id.as_str())],
            u64::from(app.slots_used),
        );
    }
    page.family(
        "rowcall_source_up",
        "gauge",
        "Whether signals of a source flow.",
    );
    for source in &status.sources {
        page.value(
            "rowcall_source_up",
            &[("source", &source.name)],
            u64::from(source.up),
        );
    }
    page.family(
        "rowcall_source_settling",
        "gauge",
        "Settlements that wait to be written.",
    );
    for source in &status.sources {
        page.value(
            "rowcall_source_settling",
            &[("source", &source.name)],
            source.settling as u64,
        );
    }
    page.family(
        "rowcall_start_time_seconds",
        "gauge",
        "When the engine was started, in seconds since 1970.",
    );
    let started = u64::try_from(status.started_at.as_second()).unwrap_or(0);
    page.value("rowcall_start_time_seconds", &[], started);
}
