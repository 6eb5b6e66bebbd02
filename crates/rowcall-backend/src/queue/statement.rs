//! Builds the statements of the coordinator. One statement is one transaction and one round trip, so what belongs together
//! (a dead letter and the end of its message, settling and claiming) is put into one, as data-modifying parts of a `with`.
//!
//! Only names of tables and columns and numbers of parameters go into the text; every value is a parameter.

use std::fmt::Write as _;

use tokio_postgres::types::ToSql;

use super::{
    layout::{Layout, Tables},
    spec::{Finish, QueueSpec, ReadOrder},
    step::{Change, Claim, Kind, Leases, Step},
    store::seconds,
};

/// A statement under construction.
#[derive(Default)]
pub(super) struct Statement {
    parts: Vec<String>,
    arms: Vec<String>,
    params: Vec<Box<dyn ToSql + Sync + Send>>,
}

/// A claim of one queue, with what is known of it.
struct ClaimOne<'a> {
    queue: usize,
    spec: &'a QueueSpec,
    tables: &'a Tables,
    newest_first: bool,
    only: Option<i64>,
}

impl Statement {
    /// Puts steps into one statement.
    pub(super) fn of(steps: &[Step], specs: &[QueueSpec], layout: &Layout) -> Self {
        let mut statement = Self::default();
        for step in steps.iter().filter(|step| !step.is_empty()) {
            let known = |queue: usize| (&specs[queue], &layout.tables[queue]);
            match step {
                Step::Claim(claim) => statement.claim(claim, specs, layout),
                Step::Done { queue, leases } => {
                    let (spec, tables) = known(*queue);
                    statement.done(*queue, spec, tables, leases);
                }
                Step::Retry {
                    queue,
                    leases,
                    delays,
                } => statement.retry(*queue, &specs[*queue], leases, delays),
                Step::GiveUp {
                    queue,
                    leases,
                    errors,
                } => {
                    let (spec, tables) = known(*queue);
                    statement.give_up(*queue, spec, tables, leases, errors);
                }
                Step::Lease {
                    queue,
                    leases,
                    change,
                } => statement.lease(*queue, &specs[*queue], leases, *change),
            }
        }
        statement
    }

    /// Whether there is anything to run.
    pub(super) fn is_empty(&self) -> bool {
        self.arms.is_empty()
    }

    /// The text, and the parameters in order.
    pub(super) fn finish(self) -> (String, Vec<Box<dyn ToSql + Sync + Send>>) {
        let text = format!(
            "with {}\n{}",
            self.parts.join(",\n"),
            self.arms.join("\nunion all\n")
        );
        (text, self.params)
    }

    fn bind(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.params.push(Box::new(value));
        format!("${}", self.params.len())
    }

    fn part(&mut self, name: &str, body: &str) {
        self.parts.push(format!("{name} as ({body})"));
    }

    /// An arm of the answer. Columns: kind, queue, `msg_id`, `read_ct`, `enqueued_at`, message, headers, waited (seconds the
    /// message had been visible).
    fn answer(&mut self, kind: Kind, queue: usize, from: &str) {
        let rest = match kind {
            Kind::Claimed => "read_ct, enqueued_at, message::text, headers::text, waited",
            Kind::GivenUp | Kind::Held => {
                "read_ct, null::timestamptz, null::text, null::text, null::float8"
            }
        };
        self.arms.push(format!(
            "select {}::int2, {queue}::int4, msg_id, {rest} from {from}",
            kind as u8
        ));
    }

    /// Reads messages of several queues, those named first before those named later.
    fn claim(&mut self, claim: &Claim, specs: &[QueueSpec], layout: &Layout) {
        let limit = self.bind(claim.limit);
        let mut taken = String::new();
        for part in &claim.parts {
            let i = part.queue;
            let cap = self.bind(part.cap);
            let room = format!("greatest(least({cap}::bigint, {limit}::bigint{taken}), 0)");
            let settled = claim.settled.as_ref();
            let own = settled
                .filter(|(queue, _)| *queue == i)
                .map(|(_, ids)| ids.as_slice());
            let one = ClaimOne {
                queue: i,
                spec: &specs[i],
                tables: &layout.tables[i],
                newest_first: claim.newest_first,
                only: claim.only,
            };
            self.claim_one(&one, &room, own);
            // Reading this count makes PostgreSQL run the earlier queue to its end first.
            let _ = write!(taken, " - (select count(*) from r{i})");
        }
    }

    fn claim_one(&mut self, part: &ClaimOne<'_>, room: &str, settled: Option<&[i64]>) {
        let &ClaimOne {
            queue: i,
            spec,
            tables,
            ..
        } = part;
        let name = format!("r{i}");
        if let (Some(function), None) = (spec.order.function(), part.only) {
            let queue = self.bind(spec.name.as_str().to_owned());
            let seconds = self.bind(seconds(spec.visibility));
            self.part(
                &name,
                &format!(
                    "select m.msg_id, m.read_ct, m.enqueued_at, m.message, m.headers, null::float8 as waited \
                     from pgmq.{function}({queue}::text, {seconds}::int, ({room})::int) m"
                ),
            );
            self.answer(Kind::Claimed, i, &name);
            return;
        }
        let table = spec.name.queue_sql();
        let mut filter = "vt <= clock_timestamp()".to_owned();
        if let Some(id) = part.only {
            let id = self.bind(id);
            let _ = write!(filter, " and msg_id = {id}::bigint");
        }
        if let Some(settled) = settled.filter(|settled| !settled.is_empty()) {
            let ids = self.bind(settled.to_vec());
            let _ = write!(filter, " and msg_id <> all ({ids}::bigint[])");
        }
        let direction = if part.newest_first { "desc" } else { "asc" };
        // The clock in the filter keeps PostgreSQL on the primary key, in order, as pgmq itself does.
        self.part(
            &format!("p{i}"),
            &format!(
                "select msg_id, read_ct, vt from {table} where {filter} order by msg_id {direction} \
                 limit {room} for update skip locked"
            ),
        );
        let gives_up = tables.gives_up(spec);
        let alive = if gives_up {
            let max = self.bind(i32::try_from(spec.max_attempts.unwrap_or(0)).unwrap_or(i32::MAX));
            self.bury(i, &max, spec, tables);
            format!(" and p{i}.read_ct < {max}::int")
        } else {
            String::new()
        };
        let headers = if tables.headers {
            "m.headers"
        } else {
            "null::jsonb as headers"
        };
        let waited = format!("extract(epoch from clock_timestamp() - p{i}.vt)::float8 as waited");
        if spec.pops() {
            self.part(
                &name,
                &format!(
                    "delete from {table} m using p{i} where m.msg_id = p{i}.msg_id{alive} \
                     returning m.msg_id, m.read_ct + 1 as read_ct, m.enqueued_at, m.message, {headers}, {waited}"
                ),
            );
        } else {
            let seconds = self.bind(spec.visibility.as_secs_f64());
            let read = if tables.last_read_at {
                ", last_read_at = clock_timestamp()"
            } else {
                ""
            };
            self.part(
                &name,
                &format!(
                    "update {table} m set vt = clock_timestamp() + make_interval(secs => {seconds}::float8), \
                     read_ct = m.read_ct + 1{read} from p{i} where m.msg_id = p{i}.msg_id{alive} \
                     returning m.msg_id, m.read_ct, m.enqueued_at, m.message, {headers}, {waited}"
                ),
            );
        }
        self.answer(Kind::Claimed, i, &name);
    }

    /// Messages among `p{i}` that were tried too often: their workers crashed, or let them expire.
    fn bury(&mut self, i: usize, max: &str, spec: &QueueSpec, tables: &Tables) {
        let error = format!("no attempt of {} ended", spec.max_attempts.unwrap_or(0));
        let (table, error) = (spec.name.queue_sql(), self.bind(error));
        let columns = returning(tables);
        self.part(
            &format!("d{i}"),
            &format!(
                "delete from {table} m using p{i} where m.msg_id = p{i}.msg_id and p{i}.read_ct >= {max}::int \
                 returning {columns}, {error}::text as error, 'AttemptsExhausted'::text as kind"
            ),
        );
        self.letters(&format!("d{i}"), &format!("b{i}"), spec, tables);
        self.answer(Kind::GivenUp, i, &format!("d{i}"));
    }

    /// Moves the rows of the part `from`, which were deleted, to where messages that were given up go.
    fn letters(&mut self, from: &str, name: &str, spec: &QueueSpec, tables: &Tables) {
        if let Some(letters) = &spec.dead_letters {
            let queue = self.bind(spec.name.as_str().to_owned());
            self.part(
                &format!("{name}_letter"),
                &format!(
                    "insert into {} (vt, message) select clock_timestamp(), jsonb_build_object(\
                     'original_queue', {queue}::text, 'original_job_id', msg_id, 'attempt_count', read_ct, \
                     'error_type', kind, 'error_message', error, 'timestamp', \
                     to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"'), \
                     'job_data', message) from {from}",
                    letters.queue_sql()
                ),
            );
        }
        if Tables::archives_the_dead(spec) {
            self.archive(from, &format!("{name}_archive"), spec, tables);
        }
    }

    fn archive(&mut self, from: &str, name: &str, spec: &QueueSpec, tables: &Tables) {
        let columns = tables.columns().join(", ");
        let archive = spec.name.archive_sql();
        self.part(
            name,
            &format!("insert into {archive} ({columns}) select {columns} from {from}"),
        );
    }

    /// Ends messages whose leases are still ours.
    fn done(&mut self, i: usize, spec: &QueueSpec, tables: &Tables, leases: &Leases) {
        let (table, fence) = (spec.name.queue_sql(), self.fence(leases));
        let columns = returning(tables);
        self.part(
            &format!("s{i}"),
            &format!("delete from {table} m using {fence} returning {columns}"),
        );
        if spec.finish == Finish::Archive {
            self.archive(&format!("s{i}"), &format!("s{i}_archive"), spec, tables);
        }
        self.answer(Kind::Held, i, &format!("s{i}"));
    }

    /// Gives up messages whose leases are still ours; `errors` belongs to `leases`.
    fn give_up(
        &mut self,
        i: usize,
        spec: &QueueSpec,
        tables: &Tables,
        leases: &Leases,
        errors: &[String],
    ) {
        let table = spec.name.queue_sql();
        let (ids, attempts) = (
            self.bind(leases.ids.clone()),
            self.bind(leases.attempts.clone()),
        );
        let errors = self.bind(errors.to_vec());
        let columns = returning(tables);
        self.part(
            &format!("g{i}"),
            &format!(
                "delete from {table} m using unnest({ids}::bigint[], {attempts}::int[], {errors}::text[]) \
                 as l(id, attempt, error) where m.msg_id = l.id and m.read_ct = l.attempt \
                 returning {columns}, l.error, 'AgentError'::text as kind"
            ),
        );
        self.letters(&format!("g{i}"), &format!("g{i}"), spec, tables);
        self.answer(Kind::Held, i, &format!("g{i}"));
    }

    /// Makes failed messages visible again after a delay each (seconds), or at the end of their lease (`None`).
    fn retry(&mut self, i: usize, spec: &QueueSpec, leases: &Leases, delays: &[Option<f64>]) {
        let table = spec.name.queue_sql();
        let (ids, attempts) = (
            self.bind(leases.ids.clone()),
            self.bind(leases.attempts.clone()),
        );
        let delays = self.bind(delays.to_vec());
        self.part(
            &format!("f{i}"),
            &format!(
                "update {table} m set vt = coalesce(clock_timestamp() + make_interval(secs => l.delay), m.vt) \
                 from unnest({ids}::bigint[], {attempts}::int[], {delays}::float8[]) as l(id, attempt, delay) \
                 where m.msg_id = l.id and m.read_ct = l.attempt returning m.msg_id, m.read_ct"
            ),
        );
        self.answer(Kind::Held, i, &format!("f{i}"));
    }

    fn lease(&mut self, i: usize, spec: &QueueSpec, leases: &Leases, change: Change) {
        let (table, fence) = (spec.name.queue_sql(), self.fence(leases));
        let (name, body) = match change {
            Change::Release => (
                format!("u{i}"),
                format!(
                    "update {table} m set vt = clock_timestamp(), read_ct = m.read_ct - 1 from {fence} \
                     returning m.msg_id, m.read_ct + 1 as read_ct"
                ),
            ),
            Change::Renew => {
                let seconds = self.bind(spec.visibility.as_secs_f64());
                (
                    format!("n{i}"),
                    format!(
                        "update {table} m set vt = greatest(m.vt, clock_timestamp() + make_interval(secs => {seconds}::float8)) \
                         from {fence} returning m.msg_id, m.read_ct"
                    ),
                )
            }
            Change::Check => (
                format!("c{i}"),
                format!("select m.msg_id, m.read_ct from {table} m, {fence}"),
            ),
        };
        self.part(&name, &body);
        self.answer(Kind::Held, i, &name);
    }

    /// The fence: a lease is ours while the message was not read since. Every read counts, ours or anybody's.
    fn fence(&mut self, leases: &Leases) -> String {
        let (ids, attempts) = (
            self.bind(leases.ids.clone()),
            self.bind(leases.attempts.clone()),
        );
        format!(
            "unnest({ids}::bigint[], {attempts}::int[]) as l(id, attempt) \
             where m.msg_id = l.id and m.read_ct = l.attempt"
        )
    }
}

/// Whether settling and claiming this queue can be one statement. A grouped read looks at the queue with eyes of its own and
/// would still see the messages that the same statement ends.
pub(super) fn combines(spec: &QueueSpec) -> bool {
    spec.order == ReadOrder::Oldest
}

fn returning(tables: &Tables) -> String {
    let columns: Vec<String> = tables
        .columns()
        .iter()
        .map(|column| format!("m.{column}"))
        .collect();
    columns.join(", ")
}
