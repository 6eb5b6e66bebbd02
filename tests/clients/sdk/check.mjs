// Named checks of the published JavaScript SDK; all run, and the process fails if one did.
import { RealtimeXSDK } from '@realtimex/sdk'

export const env = process.env

/** The SDK as an app makes it: the credential is in the environment, where rowcall or a developer puts it. */
export function sdk(more = {}) {
  return new RealtimeXSDK({ realtimex: { url: env.RTX_TEST_URL, appName: 'Demo' }, ...more })
}

/** The error that an action must end with. */
export async function fails(action) {
  try {
    await action()
  } catch (error) {
    return error
  }
  throw new Error('an error was expected')
}

/** Asks until an answer is right, for as long as a slow machine may need. */
export async function until(what, ask) {
  const deadline = Date.now() + 30_000
  for (;;) {
    const found = await ask()
    if (found) return found
    if (Date.now() > deadline) throw new Error(`${what} did not happen`)
    await new Promise(resolve => setTimeout(resolve, 25))
  }
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
  console.log(`${Object.keys(checks).length - failed} checks passed`)
  process.exit(failed === 0 ? 0 : 1)
}
