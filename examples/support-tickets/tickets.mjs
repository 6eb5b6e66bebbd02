// Writes what the agent found into the ticket: over REST where there is a SUPABASE_URL, with psql otherwise.

import { spawnSync } from "node:child_process";

const TIMEOUT_MS = 10_000;

const UPDATE = `
update public.support_tickets
set category = :'category', priority = :'priority', status = 'categorized'
where id = :'id';
`;

/** Sends JSON; gives the text of the answer, throws with what the server said. */
export async function post(url, body, { method = "POST", headers = {} } = {}) {
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: { "Content-Type": "application/json", ...headers },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    // "fetch failed" alone helps nobody.
    throw new Error(error.cause?.message || error.cause?.code || error.message);
  }
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${response.statusText} ${text.slice(0, 500)}`.trim());
  return text;
}

/** Gives how it was done: "rest", "psql", or null when there was no way. */
export async function updateTicket(ticketId, analysis) {
  if (process.env.SUPABASE_URL) {
    await updateOverRest(ticketId, analysis);
    return "rest";
  }
  if (process.env.DATABASE_URL) return updateWithPsql(ticketId, analysis);
  return null;
}

async function updateOverRest(ticketId, analysis) {
  const url = process.env.SUPABASE_URL.replace(/\/+$/, "");
  const key = process.env.SUPABASE_KEY ?? "";
  const changes = { category: analysis.category, priority: analysis.priority, status: "categorized" };
  try {
    await post(`${url}/rest/v1/support_tickets?id=eq.${encodeURIComponent(ticketId)}`, changes, {
      method: "PATCH",
      headers: { apikey: key, Authorization: `Bearer ${key}`, Prefer: "return=minimal" },
    });
  } catch (error) {
    throw new Error(`Failed to update ticket: ${error.message}`);
  }
}

function updateWithPsql(ticketId, analysis) {
  // Other users of the machine can read arguments, so the password goes by environment. The values are quoted by
  // psql itself (:'name'), never pasted into the SQL.
  const password = process.env.DATABASE_URL.match(/^[^/]*\/\/[^/@:]*:([^/@]*)@/)?.[1];
  const url = password === undefined ? process.env.DATABASE_URL : process.env.DATABASE_URL.replace(`:${password}@`, "@");
  const env = password ? { ...process.env, PGPASSWORD: decodeURIComponent(password) } : process.env;
  const values = { id: ticketId, category: analysis.category, priority: analysis.priority };
  const variables = Object.entries(values).flatMap(([name, value]) => ["-v", `${name}=${value}`]);
  const done = spawnSync("psql", ["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-d", url, ...variables], {
    input: UPDATE,
    env,
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  if (done.error?.code === "ENOENT") return null;
  if (done.error || done.status !== 0) {
    throw new Error(`Failed to update ticket: ${done.error?.message ?? done.stderr.trim()}`);
  }
  return "psql";
}
