//! What the numbers were measured on.

use std::{fs, io::Write as _, path::Path, time::Instant};

use anyhow::Result;

use crate::numbers::median;

/// How often the disk is asked to flush.
const FLUSHES: usize = 50;

/// Processor, kernel, PostgreSQL and how long a flush takes.
pub(crate) fn describe(directory: &Path, postgres: String) -> Result<Vec<(&'static str, String)>> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let count = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(vec![
        ("processor", format!("{count} × {model}")),
        ("linux", kernel.trim().to_owned()),
        ("postgresql", postgres),
        (
            "flush",
            format!("{:.2} ms (median of {FLUSHES})", flush_ms(directory)?),
        ),
        (
            "load before",
            load.split_whitespace().next().unwrap_or("?").to_owned(),
        ),
    ])
}

/// How long `fdatasync` takes after a page was written, in milliseconds.
fn flush_ms(directory: &Path) -> Result<f64> {
    let mut file = tempfile::tempfile_in(directory)?;
    let page = [7_u8; 8192];
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.write_all(&page)?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&times))
}
