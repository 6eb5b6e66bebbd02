#!/usr/bin/env node
// Support ticket categorizer: started by rowcall for each new ticket. Needs nothing but Node.js 18 or newer.
//
// Reads the ticket from ACTIVITY_DATA (or from the arguments), decides category and priority, writes them into the
// ticket, and reports by webhook. The last line of its output says the same, for hosts that read that instead.

import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

import { categorize } from "./categorize.mjs";
import { post, updateTicket } from "./tickets.mjs";

const REPORT_ATTEMPTS = 3;
const REPORT_PAUSE_MS = 300;

/** The task's data: by file when it is large, else by environment or argument. */
function readActivity() {
  const { ACTIVITY_DATA_FILE: file, ACTIVITY_DATA: data } = process.env;
  return JSON.parse(file ? readFileSync(file, "utf8") : data || process.argv[3] || "{}");
}

/** Tells rowcall how it ended. Repeating a report is harmless, so a lost answer is no problem. */
async function report(taskUuid, action, data) {
  const server = (process.env.SERVER_URL ?? "http://localhost:3001").replace(/\/+$/, "");
  const body = {
    action,
    table_name: "support_tickets",
    machine_id: process.env.MACHINE_ID || "unknown",
    data,
  };
  for (let attempt = 1; attempt <= REPORT_ATTEMPTS; attempt++) {
    try {
      const answer = await post(`${server}/api/external-tasks/${taskUuid}/webhook`, body);
      if (JSON.parse(answer || "{}").success === false) throw new Error(`refused: ${answer}`);
      return;
    } catch (error) {
      console.error("Webhook failed:", error.message);
      if (attempt < REPORT_ATTEMPTS) await pause(REPORT_PAUSE_MS);
    }
  }
}

const taskUuid = process.env.TASK_UUID || process.argv[2];
try {
  const ticket = readActivity().raw_data;
  if (!ticket?.id) throw new Error("the task holds no ticket: expected raw_data with an id");
  console.log("Processing ticket:", ticket.id);

  const { reasons, ...analysis } = categorize(ticket);
  for (const reason of reasons) console.log(" ", reason);

  const way = await updateTicket(ticket.id, analysis);
  console.log(way ? `Ticket updated (${way})` : "No SUPABASE_URL and no psql: the result is only reported");

  if (taskUuid) await report(taskUuid, "completed", { result: analysis, ticket_id: ticket.id });
  console.log(JSON.stringify({ result: analysis }));
} catch (error) {
  console.error("Error processing ticket:", error.message);
  if (taskUuid) await report(taskUuid, "failed", { error: { message: error.message, stack: error.stack } });
  console.log(JSON.stringify({ error: { message: error.message } }));
  process.exitCode = 1;
}
