//! What is found is shown with the command or the SQL that mends it.

use std::collections::BTreeMap;

use rowcall_backend::supabase::{Capture, Examined, ExaminedTable, TablePlan};
use rowcall_core::TableName;

use super::{
    super::{Finding, Verdict},
    Found, clock, realtime, table,
};
use crate::config::BackendKind;

const GOOD: ExaminedTable = ExaminedTable {
    exists: true,
    published: true,
    replica_identity: true,
    row_security: true,
    policies: 1,
    readable: true,
    writable: true,
};

fn odd() -> TableName {
    TableName::new("public", "Odd \"Name").unwrap()
}

fn project(tables: usize) -> Found {
    let plan = TablePlan {
        capture: Some(Capture::Rows),
        published: Some(true),
    };
    let names = (0..tables).map(|number| TableName::new("public", &format!("t{number}")).unwrap());
    Found {
        activities: true,
        columns: true,
        functions: true,
        claim_function: true,
        row_security: Some(true),
        signed_in: true,
        publications: Some(Vec::new()),
        tables: names.map(|name| (name, plan)).collect(),
        clock_ahead: Some(0),
        examined: Some(Examined {
            role: Some("authenticated".to_owned()),
            statement_timeout: Some("8s".to_owned()),
            tables: BTreeMap::new(),
        }),
    }
}

fn with_clock(ahead: Option<i64>) -> Finding {
    clock(&Found {
        clock_ahead: ahead,
        ..project(0)
    })
}

fn look(one: ExaminedTable, capture: Option<Capture>) -> Vec<Finding> {
    let kind = BackendKind::Supabase;
    table::look(
        &odd(),
        kind,
        capture,
        Some(one.published),
        Some(&one),
        &project(1),
    )
}

fn help(finding: &Finding) -> &str {
    finding.help.as_deref().expect("what to do")
}

#[test]
fn clocks_that_differ_are_told_with_the_difference() {
    for (ahead, verdict) in [
        (Some(5), Verdict::Good),
        (Some(-5), Verdict::Good),
        (Some(6), Verdict::Notice),
        (Some(-90), Verdict::Notice),
        (None, Verdict::Notice),
    ] {
        let finding = with_clock(ahead);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        if let Some(ahead) = ahead.filter(|ahead| ahead.abs() > 5) {
            let seconds = format!("by {} s", ahead.abs());
            assert!(finding.found.contains(&seconds), "{finding:?}");
            assert!(help(&finding).contains("NTP"), "{finding:?}");
        }
    }
}

#[test]
fn a_replica_identity_that_is_not_full_comes_with_its_sql() {
    let partial = ExaminedTable {
        replica_identity: false,
        ..GOOD
    };
    let findings = look(partial, Some(Capture::Rows));
    let notice = findings.iter().find(|one| one.verdict == Verdict::Notice);
    let notice = notice.expect("it is found");
    assert!(notice.found.contains("replica identity"), "{notice:?}");
    assert_eq!(
        help(notice),
        r#"alter table "public"."Odd ""Name" replica identity full;"#
    );
    assert!(
        look(GOOD, Some(Capture::Rows))
            .iter()
            .all(|one| one.verdict == Verdict::Good)
    );
}

#[test]
fn what_is_wrong_with_a_table_comes_with_what_mends_it() {
    for (one, capture, found, mends) in [
        (
            ExaminedTable {
                published: false,
                ..GOOD
            },
            Some(Capture::Rows),
            "not in the publication",
            "alter publication supabase_realtime",
        ),
        (
            ExaminedTable {
                writable: false,
                ..GOOD
            },
            Some(Capture::Rows),
            "the role authenticated may not read and write",
            r#"grant select, update on "public"."Odd ""Name" to authenticated;"#,
        ),
        (
            ExaminedTable {
                exists: false,
                ..GOOD
            },
            None,
            "the role authenticated may not see it",
            "rowcall tables",
        ),
        (GOOD, None, "cannot become tasks", "rowcall setup"),
    ] {
        let findings = look(one, capture);
        let problem = findings
            .iter()
            .find(|one| one.verdict == Verdict::Problem)
            .expect("it is found");
        assert!(problem.found.contains(found), "{problem:?}");
        assert!(help(problem).contains(mends), "{problem:?}");
    }
    let daemon = look(GOOD, Some(Capture::Daemon));
    let notice = daemon.iter().find(|one| one.verdict == Verdict::Notice);
    let command = help(notice.expect("it is found"));
    assert!(command.contains("rowcall setup --table"), "{command}");
}

#[test]
fn limits_are_counted() {
    let fits = realtime::limits(&project(98), 1);
    assert_eq!(fits.verdict, Verdict::Good);
    assert!(
        fits.found.contains("100 of 100") && fits.found.contains("8s"),
        "{fits:?}"
    );
    let many = realtime::limits(&project(99), 1);
    assert_eq!(many.verdict, Verdict::Problem);
    assert!(many.found.contains("101 of 100"), "{many:?}");
    assert!(help(&many).contains("several machines"), "{many:?}");
}
