// An app that has no permission yet: its calls wait until a person decides, then go on by themselves.
import assert from 'node:assert/strict'
import { fails, run, sdk } from './check.mjs'

const rtx = sdk()
const id = '00000000-0000-4000-8000-000000000000'
const noProvider = /No LLM provider is configured/

/** What each call comes to once its permission was granted, while it waited. */
const granted = {
  'api.threads': async () => assert.equal((await rtx.api.getThreads('default'))[0].slug, 'general'),
  'api.task': async () => assert.equal((await fails(() => rtx.api.getTask(id))).message, 'Task not found'),
  'webhook.trigger': async () =>
    assert.equal((await rtx.webhook.triggerAgent({ raw_data: {} })).message, 'Calendar event created'),
  'activities.write': async () => assert.equal((await rtx.activities.insert({ a: 1 })).status, 'pending'),
  'activities.read': async () => assert.deepEqual((await rtx.activities.list({ limit: 1 }))[0].raw_data, { a: 1 }),
  'llm.providers': async () => assert.deepEqual((await rtx.llm.chatProviders()).providers, []),
  'llm.chat': async () => assert.match((await fails(() => rtx.llm.chat([{ role: 'user', content: 'hi' }]))).message, noProvider),
  'llm.embed': async () => assert.match((await fails(() => rtx.llm.embed(['hi']))).message, noProvider),
  'vectors.read': async () => assert.match((await fails(() => rtx.llm.vectors.query([1]))).message, noProvider),
  'vectors.write': async () =>
    assert.match((await fails(() => rtx.llm.vectors.upsert([{ id: 'a', vector: [1], metadata: {} }]))).message, noProvider),
}

await run({
  async 'several calls at once share one question'() {
    const answers = await Promise.all([rtx.api.getAgents(), rtx.api.getAgents(), rtx.api.getAgents()])
    assert.deepEqual(answers.map(agents => agents[0].slug), ['echo', 'echo', 'echo'])
  },
  async 'a denial is an error'() {
    const error = await fails(() => rtx.api.getWorkspaces())
    assert.equal(error.permission, 'api.workspaces')
  },
  ...granted,
})
