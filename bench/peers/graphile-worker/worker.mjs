// The peer graphile-worker, driven by rowcall's benchmark: `node worker.mjs migrate|default|local-queue <jobs>`.
// Says ready, starts on a line of input, and says when the first and the last handler start.
import { createInterface } from "node:readline";
import { Logger, run, runMigrations } from "graphile-worker";

const [mode, jobs] = [process.argv[2], Number(process.argv[3])];
const say = (word) => process.stdout.write(`${word}\n`);
const logger = new Logger(() => () => {});

if (mode === "migrate") {
  await runMigrations({ connectionString: process.env.DATABASE_URL, logger });
  say("migrated");
} else {
  let started = 0;
  const noop = () => {
    started += 1;
    if (started === 1) say("first");
    if (started === jobs) say("last");
  };
  // The settings of its published benchmark; otherwise its defaults with the same concurrency.
  const tuned = { localQueue: { size: 500, refetchDelay: { durationMs: 10 } }, completeJobBatchDelay: 0 };
  const worker = {
    connectionString: process.env.DATABASE_URL,
    concurrentJobs: 24,
    maxPoolSize: 25,
    ...(mode === "local-queue" ? tuned : {}),
  };
  const input = createInterface({ input: process.stdin });
  input.once("line", async () => {
    await run({ preset: { worker }, taskList: { noop }, logger });
  });
  say("ready");
}
