//! Agents that are started for each task.

use std::{pin::pin, process::ExitStatus, time::Duration};

use async_trait::async_trait;
use rowcall_core::{
    AgentError, AgentErrorKind, AgentKind, AgentOutput, Command, Payload,
    ports::{AgentRunner, OutputStream, RunContext},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::{self, Delivery},
    child::{Launch, Pipes, Running},
    environment::Variables,
    error::LaunchError,
    outcome,
    output::Capture,
    supervisor::Supervisor,
};

/// Runs agents of [`AgentKind::Process`]: one start for each attempt.
///
/// The result, in this order: a report that was accepted from outside; exit code 0 with the last line of standard output
/// that is an object of JSON (its `result` member if it has one, `{}` without such a line); otherwise a failure with
/// that line's `error`, or the end of the error output.
#[derive(Clone, Debug)]
pub struct ProcessRunner {
    supervisor: Supervisor,
}

/// How a run came to its end.
enum Ending {
    /// The program ended by itself.
    Exited(ExitStatus),
    /// Its report was accepted; how it ends no longer matters.
    Reported,
    /// It took longer than its agent may.
    TimedOut { killed: bool },
    /// Somebody stopped it.
    Stopped,
}

impl ProcessRunner {
    /// A runner that starts programs through `supervisor`.
    pub fn new(supervisor: Supervisor) -> Self {
        Self { supervisor }
    }

    async fn deliver(&self, context: &RunContext) -> Result<Delivery, LaunchError> {
        let limit = self.supervisor.options().limits.inline_activity_bytes;
        let text = activity::json(context);
        let path = self.supervisor.spool_file();
        if !activity::needs_file(&text, limit) {
            return activity::deliver(context, text, limit, path);
        }
        let context = context.clone();
        tokio::task::spawn_blocking(move || activity::deliver(&context, text, limit, path))
            .await
            .expect("writing a file does not panic")
    }

    fn launch(
        &self,
        context: &RunContext,
        command: &Command,
        delivery: &Delivery,
    ) -> Result<Launch, LaunchError> {
        let home = self.supervisor.home(&context.app);
        let mut variables = self.supervisor.variables(&home);
        describe_task(&mut variables, context, delivery);
        if let Some(more) = &self.supervisor.options().task_variables {
            variables.extend(&more(&context.lease));
        }
        variables.extend(&command.env);
        let mut program = Supervisor::resolve(command, &variables, &home.directory)?;
        program.args.push(context.task.task.id.to_string());
        program.args.push(delivery.inline.clone());
        Ok(Launch {
            program,
            variables,
            talks: false,
        })
    }

    /// Waits for the first of all reasons to end, and ends the program and all that came from it.
    async fn end(
        &self,
        mut running: Running,
        context: &RunContext,
        stop: &CancellationToken,
    ) -> Ending {
        let graces = self.supervisor.options().graces;
        // Each branch only waits; a branch that loses is dropped and nothing is lost with it.
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                running.stop(graces.terminate).await;
                running.finish().await;
                Ending::Stopped
            }
            () = context.reported.cancelled() => {
                if timeout(graces.report_exit, running.ended()).await.is_err() {
                    running.stop(graces.terminate).await;
                }
                running.finish().await;
                Ending::Reported
            }
            () = running.ended() => Ending::Exited(running.finish().await),
            () = sleep(context.agent.timeout) => {
                let killed = running.stop(graces.terminate).await;
                running.finish().await;
                Ending::TimedOut { killed }
            }
        }
    }
}

fn describe_task(variables: &mut Variables, context: &RunContext, delivery: &Delivery) {
    let task = &context.task;
    variables.set("TASK_UUID", task.task.id.to_string());
    variables.set("ACTIVITY_DATA", &delivery.inline);
    if let Some(file) = &delivery.file {
        variables.set("ACTIVITY_DATA_FILE", file.path());
    }
    variables.set("MACHINE_ID", context.lease.machine.as_str());
    variables.set("TABLE_NAME", activity::table_name(context));
    variables.set("TABLE_SCHEMA", task.source.schema());
    variables.set("EVENT_TYPE", task.event.as_str());
    variables.set("ATTEMPT", task.attempt.to_string());
    variables.set("IDEMPOTENCY_KEY", task.idempotency_key());
}

/// For messages: `30 s`, `1.5 s`, `250 ms`.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{} s", time.as_secs_f64())
    }
}

/// The message for an attempt that took too long.
pub(crate) fn timed_out(limit: Duration, how: &str) -> AgentError {
    AgentError::new(
        AgentErrorKind::TimedOut,
        format!(
            "the agent did not finish within {} and was {how}; raise timeout_seconds if its work takes longer",
            seconds(limit)
        ),
    )
}

/// The answer to a stop, whatever the program made of it.
pub(crate) fn stopped() -> AgentError {
    AgentError::new(AgentErrorKind::Canceled, "the agent was stopped")
}

#[async_trait]
impl AgentRunner for ProcessRunner {
    async fn run(
        &self,
        context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError> {
        let AgentKind::Process(command) = &context.agent.kind else {
            return Err(AgentError::new(
                AgentErrorKind::NotStarted,
                "this agent is no program that is started for each task",
            ));
        };
        if stop.is_cancelled() {
            return Err(stopped());
        }
        let options = self.supervisor.options();
        // Lives to the end of the run, as the file it may hold.
        let delivery = self.deliver(&context).await?;
        let launch = self.launch(&context, command, &delivery)?;
        let (running, pipes) = self.supervisor.spawn(&launch)?;
        let Pipes {
            mut stdout,
            mut stderr,
            ..
        } = pipes;
        let capture = |stream| Capture::new(context.log.clone(), stream, &options.limits);
        let (mut out, mut err) = (capture(OutputStream::Stdout), capture(OutputStream::Stderr));
        let ending = {
            let mut reading = pin!(async {
                tokio::join!(out.read(&mut stdout), err.read(&mut stderr));
            });
            let mut ending = pin!(self.end(running, &context, &stop));
            let mut drained = false;
            // The output is read whatever the ending waits for: a full pipe would stop the program from ending.
            let ending = loop {
                tokio::select! {
                    biased;
                    ending = &mut ending => break ending,
                    () = &mut reading, if !drained => drained = true,
                }
            };
            if !drained {
                // Nothing of ours can write any more; what is still in the pipes is read, and a stranger who
                // inherited them is not waited for.
                let _ = timeout(options.graces.drain, &mut reading).await;
            }
            ending
        };
        let (last, out) = out.finish();
        let (_, err) = err.finish();
        match ending {
            Ending::Exited(_) if context.reported.is_cancelled() => Ok(reported()),
            Ending::Exited(status) => {
                outcome::of_exit(status, last, &out, &err, options.limits.result_bytes)
            }
            Ending::Reported => Ok(reported()),
            Ending::Stopped => Err(stopped()),
            Ending::TimedOut { killed } => {
                let how = if killed {
                    "killed, because it ignored SIGTERM"
                } else {
                    "stopped with SIGTERM"
                };
                Err(timed_out(context.agent.timeout, how))
            }
        }
    }
}

/// What is returned when a report came from outside; it does not count.
pub(crate) fn reported() -> AgentOutput {
    AgentOutput {
        result: Payload::empty_object(),
    }
}
