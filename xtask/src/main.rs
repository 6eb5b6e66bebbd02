//! Project tasks: `cargo xtask <task>`.

mod checks;
mod clients;
mod debian;
mod fuzz;
mod run;
mod tests;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <task>

  test     set up what the tests need, then run all of them (the README's second command)
  test --postgres MAJOR  the tests that meet a database, on PostgreSQL 14 to 18, which is fetched
  checks   formatting, clippy and documentation, without tests
  clients  set up the official npm and PyPI clients and the browser that tests drive, nothing else
  chaos    the full fault run: 8 daemons, 10,000 tasks, killed daemons, a restarted database
  chaos-proxy  6 daemons on a Supabase project over bad wires, 10 minutes, 5,000 tasks
  soak [minutes]  4 queue workers over bad wires, an hour unless said otherwise: all jobs done, memory flat
  fuzz [minutes]  the properties of all parsers of what strangers send, with new cases until the time is over
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["test", "--postgres", major, filter @ ..] => tests::on_postgres(major, filter),
        ["test", filter @ ..] => tests::all(filter),
        ["checks"] => checks::run(),
        ["clients"] => clients::set_up(),
        ["chaos"] => tests::chaos(),
        ["chaos-proxy"] => tests::chaos_proxy(),
        ["soak"] => tests::soak(None),
        ["soak", minutes] => tests::soak(Some(minutes)),
        ["fuzz"] => fuzz::run_for(None),
        ["fuzz", minutes] => fuzz::run_for(Some(minutes)),
        _ => {
            run::say(HELP);
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
