#!/usr/bin/env node
// The ticket categorizer as a warm worker: started once, handles one ticket after the other.

import { categorize } from "./categorize.mjs";
import { run } from "./rowcall-worker.mjs";
import { updateTicket } from "./tickets.mjs";

await run(async (task, { log }) => {
  const ticket = task.raw_data;
  if (!ticket?.id) throw new Error("the task holds no ticket: expected raw_data with an id");
  const { reasons, ...analysis } = categorize(ticket);
  for (const reason of reasons) log(reason);
  await updateTicket(ticket.id, analysis);
  return analysis;
});
