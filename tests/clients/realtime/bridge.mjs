// What the scripts share: SQL through the test that runs them, and waiting with a limit.

import { createInterface } from 'node:readline'

const PATIENCE_MS = 15_000
const answers = []
createInterface({ input: process.stdin }).on('line', (line) => answers.shift()?.(line))

/** Has the test run SQL: one line out, one line back. */
export function sql(statement) {
  return new Promise((resolve, reject) => {
    answers.push((line) => (line === 'ok' ? resolve() : reject(new Error(line))))
    console.log(`sql ${statement.replaceAll('\n', ' ')}`)
  })
}

/** A promise with its resolve function, that fails when it takes too long. */
export function expected(what) {
  let resolve
  const promise = new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`no ${what} within ${PATIENCE_MS} ms`)), PATIENCE_MS)
    resolve = (value) => {
      clearTimeout(timer)
      done(value)
    }
  })
  promise.catch(() => {})
  return { promise, resolve }
}

/** Collects what comes, and hands it out one by one. */
export function inbox(what) {
  const waiting = []
  const queue = []
  return {
    put(value) {
      const taker = waiting.shift()
      if (taker) taker.resolve(value)
      else queue.push(value)
    },
    take() {
      if (queue.length > 0) return Promise.resolve(queue.shift())
      const next = expected(what)
      waiting.push(next)
      return next.promise
    },
    get length() {
      return queue.length
    },
  }
}

/** Subscribes and waits for the state SUBSCRIBED. */
export function subscribed(channel) {
  const joined = expected(`SUBSCRIBED of ${channel.topic}`)
  channel.subscribe((status, error) => {
    if (status === 'SUBSCRIBED') joined.resolve()
    else if (status !== 'CLOSED') console.error(channel.topic, status, error?.message ?? '')
  })
  return joined.promise
}

/** Runs the named steps one after the other; the process fails with the first that does. */
export async function run(steps) {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step()
      console.log(`done ${name}`)
    } catch (error) {
      console.error(`${name}: ${error.stack}`)
      process.exit(1)
    }
  }
  process.exit(0)
}
