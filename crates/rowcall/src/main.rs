//! The `rowcall` program; everything is in the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::env::args_os().collect();
    // Configuration is text: a variable that is not is none of ours.
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    rowcall::cli::main(args, env.collect()).into()
}
