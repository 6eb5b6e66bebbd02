//! What the bodies of answers look like where they are made of types of other crates, which know nothing of OpenAPI. Each shape
//! describes the type it names; a test holds answers of a real daemon against the document.

use jiff::Timestamp;
use serde_json::Value;
use utoipa::ToSchema;

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, ToSchema)]
            #[expect(dead_code, reason = "describes a body that another crate's type writes")]
            pub(super) struct $name { $($(#[$field_doc])* $field: $type,)+ }
        )+
    };
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($word:ident),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, ToSchema)]
            #[schema(rename_all = "snake_case")]
            #[expect(dead_code, reason = "describes words that another crate's type writes")]
            pub(super) enum $name { $($word,)+ }
        )+
    };
}

words! {
    /// Where a task stands.
    State { Pending, Claimed, Processing, Completed, Failed, Canceled }
    /// How an attempt ended.
    AttemptOutcome { Completed, Failed, Canceled, Released, Lost, Interrupted }
    /// Where a task stands in the calendar of this machine.
    EntryState { Seen, Waiting, Running, Completed, Failed, Canceled, Skipped }
    /// Whether tasks run by themselves or wait for a person.
    Runs { Auto, Review }
    /// Where a line came from.
    Output { Stdout, Stderr }
    /// What a person decided.
    Decided { Granted, Denied }
    /// Where an app's program stands.
    ProgramState { Stopped, Starting, Running, Stopping, Error }
    /// Where a task stands in the engine's hands.
    RunningStage { Running, Stopping, Settling, Lingering, Lost }
}

shapes! {
    /// A task as the database has it.
    TaskShape {
        /// The table that is claimed.
        table: String,
        /// Its id there.
        id: String,
        /// The table whose change made it.
        source: String,
        /// `INSERT`, `UPDATE` or `DELETE` there.
        event: String,
        /// The key of the changed row.
        key: Option<Value>,
        /// The new row, or what a client wrote.
        raw_data: Value,
        /// The row before the change.
        old_data: Option<Value>,
        /// How often it was claimed.
        attempt: u32,
        /// How many attempts failed.
        retry_count: u32,
        /// The machines that failed it.
        attempted_by: Vec<String>,
        created_at: Timestamp,
        /// Null for a status that rowcall does not know.
        state: Option<State>,
        /// The status as it is stored.
        status: String,
        /// Who holds or held it.
        locked_by: Option<String>,
        /// When the lease was taken or renewed last.
        locked_at: Option<Timestamp>,
        completed_at: Option<Timestamp>,
        /// When the machine that failed it may try again.
        retry_at: Option<Timestamp>,
        /// The last error.
        error_message: Option<String>,
        /// What the agent answered.
        result: Option<Value>,
        /// It failed so often that nobody claims it any more.
        needs_attention: bool,
    }

    /// An attempt on this machine.
    AttemptShape {
        id: i64,
        task_table: String,
        task_id: String,
        /// Which claim of the task it was.
        attempt: u32,
        app: Option<String>,
        agent: Option<String>,
        machine: Option<String>,
        started_at: Timestamp,
        /// Null while it runs.
        ended_at: Option<Timestamp>,
        outcome: Option<AttemptOutcome>,
        error: Option<String>,
        /// How many lines it printed.
        log_lines: i64,
        /// How many bytes of them are kept.
        log_bytes: i64,
        /// How many lines were thrown away.
        cut_lines: i64,
    }

    /// A task that a client started by naming its agent.
    TriggerShape {
        task_id: String,
        /// `app:<name>`, `key:<name>` or `operator`.
        caller: String,
        event_id: Option<String>,
        attempt_id: Option<String>,
        title: String,
        /// An app's uuid, or a text for other callers.
        source_app: String,
        app: Option<String>,
        agent: Option<String>,
        workspace_slug: Option<String>,
        thread_slug: Option<String>,
        prompt: Option<String>,
        capability_id: Option<String>,
        /// Whether it was started at once; otherwise a person decides.
        auto_run: bool,
        created_at: Timestamp,
    }

    /// A task in the calendar of this machine.
    EntryShape {
        id: i64,
        task_table: String,
        task_id: String,
        source_table: String,
        event: String,
        app: String,
        agent: String,
        trigger: Runs,
        state: EntryState,
        /// The last attempt on this machine.
        attempt: Option<u32>,
        /// Why it failed.
        error: Option<String>,
        seen_at: Timestamp,
        updated_at: Timestamp,
        /// When it shall run, where a person said so.
        scheduled_for: Option<Timestamp>,
    }

    /// A line that an agent or a program printed.
    LineShape {
        /// Grows with every line: the cursor for what follows.
        seq: i64,
        at: Timestamp,
        stream: Output,
        line: String,
    }

    /// What was thrown away between the first and the last lines.
    CutShape {
        /// It stood after this line; 0 for the beginning.
        after: i64,
        lines: i64,
        bytes: i64,
    }

    /// A part of an attempt's output.
    LogShape {
        attempt: u32,
        /// Whether the attempt has ended.
        ended: bool,
        lines: Vec<LineShape>,
        cut: Option<CutShape>,
    }

    /// A part of a program's output.
    LinesShape {
        lines: Vec<LineShape>,
        /// How many lines before them are gone.
        missed: u64,
    }

    /// How a program ended.
    EndShape {
        at: Timestamp,
        /// Its exit code, when it ended by itself.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    }

    /// An app's program.
    ProgramShape {
        state: ProgramState,
        since: Option<Timestamp>,
        pid: Option<u32>,
        port: Option<u16>,
        /// Whether it accepts connections there.
        ready: bool,
        /// How often it crashed since it was last healthy.
        crashes: u32,
        restarts: u32,
        ended: Option<EndShape>,
        /// What is wrong, for people.
        problem: Option<String>,
    }

    /// An agent under the name by which clients start it.
    AgentShape {
        slug: String,
        name: String,
        display_name: String,
        description: Option<String>,
        /// Always null: there is no hub.
        hub_id: Option<String>,
        app: String,
    }

    /// A key: never the key itself.
    KeyShape {
        name: String,
        /// Its first characters.
        hint: String,
        /// Whether it may also administer this machine.
        admin: bool,
        created_at: Timestamp,
        last_used_at: Option<Timestamp>,
        revoked_at: Option<Timestamp>,
    }

    /// A question that waits for a person.
    QuestionShape {
        app: String,
        permission: String,
        /// What the app calls itself.
        asked_as: String,
        asked_at: Timestamp,
    }

    /// A decision.
    DecisionShape {
        app: String,
        permission: String,
        decision: Decided,
        /// `cli`, `api` or `policy`.
        decided_by: String,
        decided_at: Timestamp,
    }

    /// How often an app used a permission.
    UseShape {
        app: String,
        permission: String,
        uses: i64,
        first_at: Timestamp,
        last_at: Timestamp,
    }

    /// A line of the permission log.
    PermissionEntryShape {
        id: i64,
        at: Timestamp,
        app: String,
        /// `*` for all.
        permission: String,
        /// `asked`, `granted`, `denied` or `reset`.
        what: String,
        decided_by: String,
    }

    /// A workspace.
    WorkspaceShape {
        id: i64,
        slug: String,
        name: String,
        r#type: String,
        created_at: Timestamp,
    }

    /// A thread of a workspace.
    ThreadShape {
        id: i64,
        slug: String,
        name: String,
        created_at: Timestamp,
    }

    /// The engine at one moment.
    EngineShape {
        machine: String,
        started_at: Timestamp,
        /// Whether it takes no more tasks.
        stopping: bool,
        /// How many tasks run.
        slots_used: u32,
        /// How many may.
        slots: u32,
        apps: Vec<EngineAppShape>,
        problems: Vec<EngineProblemShape>,
        sources: Vec<EngineSourceShape>,
        /// The oldest first.
        running: Vec<RunningShape>,
        counters: CountersShape,
    }

    /// An app in the engine.
    EngineAppShape {
        id: String,
        slots_used: u32,
        slots: u32,
        /// How many routes have an agent.
        routes: u32,
    }

    /// What keeps an app from working as configured.
    EngineProblemShape {
        app: String,
        problem: String,
    }

    /// Where tasks come from.
    EngineSourceShape {
        name: String,
        /// Whether signals flow.
        up: bool,
        trouble: Option<String>,
        /// Settlements that wait to be written.
        settling: u32,
    }

    /// Which task.
    TaskRefShape {
        table: String,
        id: String,
    }

    /// A task in the engine's hands.
    RunningShape {
        task: TaskRefShape,
        app: String,
        agent: String,
        attempt: u32,
        since: Timestamp,
        stage: RunningStage,
    }

    /// Counted since the engine's start.
    CountersShape {
        signals: u64,
        claimed: u64,
        completed: u64,
        failed: u64,
        canceled: u64,
        released: u64,
        fenced: u64,
        needs_attention: u64,
        recovered: u64,
        reports: u64,
        calls: u64,
        failed_calls: u64,
        panics: u64,
        log_lines_dropped: u64,
    }
}
