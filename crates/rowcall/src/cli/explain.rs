//! `rowcall explain`

use clap::Args;

use crate::{
    exit::{Exit, UserError, pages},
    output,
};

/// How many codes are offered instead of one that is not known.
const MAX_OFFERED: usize = 3;

/// How similar a code must be to be offered.
const SIMILAR: f64 = 0.75;

/// Say what an error code means and what to do about it.
#[derive(Debug, Args)]
pub struct Explain {
    /// What stands in brackets after "error"; left out, all codes are listed
    code: Option<String>,
}

impl Explain {
    pub(super) fn run(&self) -> anyhow::Result<Exit> {
        let Some(asked) = &self.code else {
            let rows: Vec<[String; 2]> = pages::ALL
                .iter()
                .map(|page| [page.code.to_owned(), page.title().to_owned()])
                .collect();
            output::table(["CODE", "MEANING"], &rows)?;
            return Ok(Exit::Success);
        };
        // As it was copied: error[db-busy], [db-busy] or db-busy.
        let code = asked
            .trim_start_matches("error")
            .trim_matches(['[', ']', ':', ' ']);
        match pages::find(code) {
            Some(page) => output::line(page.text.trim_end())?,
            None => return Err(unknown(code).into()),
        }
        Ok(Exit::Success)
    }
}

fn unknown(code: &str) -> UserError {
    let error = UserError::new(Exit::NotFound, format!("there is no error code {code:?}"));
    if code.len() > 1
        && code
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    {
        return error
            .help("codes in capitals are answers of the local API: docs/http-api.md lists them");
    }
    let mut similar: Vec<(f64, &str)> = pages::ALL
        .iter()
        .map(|page| (strsim::jaro_winkler(page.code, code), page.code))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .collect();
    similar.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<&str> = similar
        .into_iter()
        .take(MAX_OFFERED)
        .map(|(_, name)| name)
        .collect();
    if names.is_empty() {
        error.help("`rowcall explain` lists them")
    } else {
        error.help(format!(
            "did you mean {}? `rowcall explain` lists all",
            names.join(", ")
        ))
    }
}
