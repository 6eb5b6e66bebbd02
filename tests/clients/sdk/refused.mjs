// An app whose permissions were all denied: every module raises its own error, and nothing loops.
import assert from 'node:assert/strict'
import { fails, run, sdk } from './check.mjs'

const rtx = sdk()
const id = '00000000-0000-4000-8000-000000000000'
const calls = {
  'api.agents': () => rtx.api.getAgents(),
  'api.workspaces': () => rtx.api.getWorkspaces(),
  'api.threads': () => rtx.api.getThreads('default'),
  'api.task': () => rtx.api.getTask(id),
  'webhook.trigger': () => rtx.webhook.triggerAgent({ raw_data: {} }),
  'activities.read': () => rtx.activities.list(),
  'activities.write': () => rtx.activities.insert({}),
  'llm.providers': () => rtx.llm.chatProviders(),
  'llm.chat': () => rtx.llm.chat([{ role: 'user', content: 'hi' }]),
  'llm.embed': () => rtx.llm.embed(['hi']),
  'vectors.read': () => rtx.llm.vectors.query([1]),
  'vectors.write': () => rtx.llm.vectors.upsert([]),
}

await run(
  Object.fromEntries(
    Object.entries(calls).map(([permission, call]) => [
      permission,
      async () => {
        const error = await fails(call)
        assert.equal(error.name, 'PermissionDeniedError')
        assert.equal(error.permission, permission)
      },
    ]),
  ),
)
