// A list of named checks; all run, and the process fails if one did.
import assert from 'node:assert/strict'
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

export const env = process.env
export const url = env.SUPABASE_URL

/** A client as an application makes it. Node 20 has no WebSocket of its own. */
export function client(key = env.ANON_KEY, options = {}) {
  return createClient(url, key, {
    auth: { persistSession: false, autoRefreshToken: false },
    realtime: { transport: ws },
    ...options,
  })
}

/** The data of an answer that must be without error. */
export function ok({ data, error, status, count }, expectedStatus) {
  assert.equal(error, null, `unexpected error: ${JSON.stringify(error)}`)
  if (expectedStatus !== undefined) assert.equal(status, expectedStatus)
  return count === undefined || count === null ? data : { data, count }
}

/** The error of an answer that must have one. */
export function fails({ error, status }, code, expectedStatus) {
  assert.notEqual(error, null, 'an error was expected')
  assert.equal(error.code, code, JSON.stringify(error))
  if (expectedStatus !== undefined) assert.equal(status ?? error.status, expectedStatus)
  return error
}

export async function run(checks) {
  let failed = 0
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check()
    } catch (error) {
      failed += 1
      console.error(`FAILED ${name}\n${error.stack ?? error}`)
    }
  }
  console.log(`${Object.keys(checks).length - failed} of ${Object.keys(checks).length} checks passed`)
  process.exit(failed === 0 ? 0 : 1)
}
