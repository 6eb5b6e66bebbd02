// A warm worker for rowcall in a few lines: run(handle). The protocol: docs/worker-protocol.md.
//
// `handle(task, { log, signal })` gets what a process gets as ACTIVITY_DATA and returns the result; an exception fails
// the task. `signal` is aborted when the task is canceled.

import { createInterface } from "node:readline";

const PROTOCOL = 1;

export async function run(handle) {
  const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
  const running = new Map();

  async function work(id, task) {
    const controller = new AbortController();
    running.set(id, controller);
    const log = (message) => say({ type: "log", id, message });
    try {
      const result = await handle(task, { log, signal: controller.signal });
      say({ type: "result", id, result: result ?? {} });
    } catch (error) {
      say({ type: "error", id, error: { message: error?.message || String(error) } });
    } finally {
      running.delete(id);
    }
  }

  // Node ends by itself when the input has ended and nothing runs any more.
  for await (const line of createInterface({ input: process.stdin })) {
    const message = JSON.parse(line);
    if (message.type === "hello") say({ type: "ready", protocol: PROTOCOL });
    else if (message.type === "task") work(message.id, message.task);
    else if (message.type === "cancel") running.get(message.id)?.abort();
    else if (message.type === "shutdown") break;
  }
}
