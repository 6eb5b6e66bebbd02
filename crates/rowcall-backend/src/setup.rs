//! What [`crate::migrate::apply`] does, as one text of SQL: for a project's SQL editor, or for an API that takes a query.

use std::fmt::Write as _;

use rowcall_core::TableName;

use crate::{
    migrate::MigrateOptions,
    sql::{literal, qualified},
};

/// The quotes around whole files. None of them contains it, which a test makes sure of.
const QUOTE: &str = "$rowcall_file$";

/// The SQL that brings a database up to date. It may be run again: what is there stays as it is. All of it takes place, or
/// nothing.
///
/// Unlike [`crate::migrate::apply`] it stops at functions of somebody else only with a notice. `published` are tables of the user's own
/// whose changes Realtime shall tell of.
pub fn script(options: MigrateOptions, published: &[TableName]) -> String {
    script_with(options, published, &[])
}

/// [`script`], with blocks of [`crate::capture::script`] that capture tables.
pub fn script_with(
    options: MigrateOptions,
    published: &[TableName],
    captures: &[String],
) -> String {
    let parts = MigrateOptions::parts();
    let mut sql = String::from(HEAD);
    let _ = writeln!(
        sql,
        "select pg_catalog.pg_advisory_xact_lock({});\n",
        parts.lock
    );
    let known = parts
        .migrations
        .iter()
        .map(|one| format!("({}, {})", one.version, literal(&one.checksum)));
    bookkeeping(&mut sql, &known.collect::<Vec<_>>().join(", "));
    for migration in &parts.migrations {
        let (version, label) = (migration.version, migration.name);
        let values = format!(
            "{version}, {}, {}",
            literal(migration.name),
            literal(&migration.checksum)
        );
        let _ = writeln!(
            sql,
            "-- {label}\ndo $rowcall$\nbegin\n  if not exists (select from rowcall.migrations where version = {version}) then\n    \
             execute {QUOTE}\n{}\n{QUOTE};\n    insert into rowcall.migrations (version, name, checksum) values ({values});\n  \
             end if;\nend\n$rowcall$;\n",
            migration.sql.trim_end(),
        );
    }
    for part in &parts.functions {
        let _ = writeln!(
            sql,
            include_str!("../sql/setup/function.sql"),
            signature = literal(part.name),
            checksum = literal(&part.checksum),
            replace = options.replace_functions,
            quote = QUOTE,
            text = part.sql.trim_end(),
        );
    }
    sql.push_str("select rowcall.adapt();\n");
    for table in published {
        publish(&mut sql, table);
    }
    for capture in captures {
        let _ = writeln!(sql, "\n{capture}");
    }
    sql.push_str("\nnotify pgrst, 'reload schema';\ncommit;\n");
    sql
}

const HEAD: &str = "\
-- rowcall: the table of tasks, the functions that claim and settle them, and what Realtime needs.
--
-- Run it as the owner of the database (SQL editor of the project, or psql). Running it again changes nothing.
begin;
set local lock_timeout = '30s';
set local client_min_messages = notice;
select pg_catalog.set_config('rowcall.quiet', 'on', true);
";

/// The tables in which is noted what was done, and the check that this program knows all of it.
fn bookkeeping(sql: &mut String, known: &str) {
    let _ = writeln!(
        sql,
        "{}\n\ndo $rowcall$\nbegin\n  if exists (\n    select from rowcall.migrations m\n      left join (values {}) known (version, checksum) \
         on known.version = m.version\n     where known.checksum is distinct from m.checksum\n  ) then\n    raise exception 'the database was \
         prepared by another version of rowcall: use that one';\n  end if;\nend\n$rowcall$;\n",
        include_str!("../sql/migrations/bookkeeping.sql").trim_end(),
        known,
    );
}

/// Realtime tells of the changes of a table in the publication; old rows need full replica identity.
fn publish(sql: &mut String, table: &TableName) {
    let _ = writeln!(
        sql,
        include_str!("../sql/setup/publish.sql"),
        schema = literal(table.schema()),
        name = literal(table.name()),
        table = qualified(table),
    );
}

/// The SQL for custom mode: the columns that show where a row stands, what Realtime needs, and two functions. May be run again.
pub fn custom_script(tables: &[TableName]) -> String {
    let parts = MigrateOptions::parts();
    let mut sql = String::from(CUSTOM_HEAD);
    for signature in [
        "public.get_publications_full()",
        "public.recover_stale_locks_custom(text, integer)",
    ] {
        if let Some(function) = parts.functions.iter().find(|one| one.name == signature) {
            let _ = writeln!(
                sql,
                "\ndo $rowcall$\nbegin\n  if pg_catalog.to_regprocedure({}) is null then\n    execute {QUOTE}\n{}\n{QUOTE};\n  end if;\nend\n$rowcall$;",
                literal(signature),
                function.sql.trim_end(),
            );
        }
    }
    for table in tables {
        let _ = writeln!(
            sql,
            include_str!("../sql/setup/custom_table.sql"),
            table = qualified(table)
        );
        publish(&mut sql, table);
        let job = format!("recover-stale-locks-{}", table.name());
        let recovery = literal(&crate::custom::recovery_sql(table));
        let _ = writeln!(
            sql,
            include_str!("../sql/setup/custom_recovery.sql"),
            job = literal(&job),
            recovery = recovery
        );
    }
    sql.push_str("\nnotify pgrst, 'reload schema';\ncommit;\n");
    sql
}

const CUSTOM_HEAD: &str = "\
-- rowcall, custom mode: the columns that show where a row stands, and what Realtime needs.
--
-- Run it as the owner of the database (SQL editor of the project, or psql). Running it again changes nothing.
begin;
set local lock_timeout = '30s';
";

/// The SQL that lets Realtime tell of a table's changes.
pub fn publish_script(table: &TableName) -> String {
    let mut sql = String::new();
    publish(&mut sql, table);
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_ends_its_own_quotes() {
        let parts = MigrateOptions::parts();
        for part in parts.migrations.iter().chain(&parts.functions) {
            let file = part.sql;
            assert!(!file.contains(QUOTE) && !file.contains("$rowcall$"));
        }
    }
}
