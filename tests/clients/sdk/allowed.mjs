// Every core method of the JavaScript SDK, for a caller that may do everything.
import assert from 'node:assert/strict'
import { accessSync, constants } from 'node:fs'
import { env, fails, run, sdk, until } from './check.mjs'

const rtx = sdk()

await run({
  async ping() {
    const pong = await rtx.ping()
    assert.deepEqual([pong.success, pong.mode, pong.appId], [true, env.RTX_APP_ID ? 'production' : 'development', env.RTX_APP_ID])
    assert.match(pong.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  },
  async 'data directory'() {
    const dir = await rtx.getAppDataDir()
    accessSync(dir, constants.W_OK)
    assert.ok(!dir.includes(env.RTX_API_KEY ?? 'no key'), 'a path never holds a key')
  },
  async agents() {
    const [agent] = await rtx.api.getAgents()
    assert.deepEqual([agent.slug, agent.name, agent.hub_id], ['echo', 'echo', null])
  },
  async 'workspaces and threads'() {
    const workspaces = await rtx.api.getWorkspaces()
    assert.deepEqual(workspaces.map(one => [one.slug, one.type]), [['default', 'workspace'], ['my ops/1', 'workspace']])
    assert.equal(typeof workspaces[0].id, 'number')
    for (const { slug } of workspaces) {
      assert.deepEqual((await rtx.api.getThreads(slug)).map(thread => thread.slug), ['general'], slug)
    }
    assert.equal((await fails(() => rtx.api.getThreads('undefined'))).message, 'Workspace not found')
    assert.equal((await fails(() => rtx.api.getTask('nope'))).message, 'Task not found')
  },
  async 'an agent is started'() {
    const started = await rtx.webhook.triggerAgent({
      raw_data: { n: 7 }, auto_run: true, agent_name: 'echo', workspace_slug: 'default', thread_slug: 'create_new', prompt: 'go',
    })
    assert.deepEqual([started.success, started.message, started.auto_run, started.task_id], [true, 'Agent triggered', true, started.task_uuid])
    assert.ok(started.calendar_event_uuid)
    const task = await until('the task is done', async () => {
      const task = await rtx.api.getTask(started.task_uuid)
      return task.status === 'completed' && task.runs[0]?.status === 'completed' && task
    })
    assert.deepEqual([task.action_type, task.title, task.error], ['SDK_TRIGGER', '[Demo] New Activity', null])
    assert.deepEqual([task.runs.length, task.runs[0].agent_name, task.runs[0].workspace_slug], [1, 'echo', 'default'])
    assert.equal((await rtx.activities.get(started.task_uuid)).result.n, 7)
    assert.ok((await rtx.api.getThreads('default')).some(thread => thread.slug === task.runs[0].thread_slug))
  },
  async 'a task waits and the app does it itself'() {
    const made = await rtx.webhook.triggerAgent({ raw_data: { a: 1 } })
    assert.deepEqual([made.message, made.auto_run], ['Calendar event created', false])
    assert.equal((await rtx.api.getTask(made.task_uuid)).status, 'pending')
    assert.equal((await rtx.task.start(made.task_uuid, 'm1')).status, 'processing')
    assert.equal((await rtx.api.getTask(made.task_uuid)).status, 'processing')
    const done = await rtx.task.complete(made.task_uuid, { summary: 'ok' }, 'm1')
    assert.deepEqual([done.status, done.task_uuid, done.event_type], ['completed', made.task_uuid, 'task.completed'])
    assert.deepEqual((await rtx.activities.get(made.task_uuid)).result, { summary: 'ok' })
    const late = await rtx.task.fail(made.task_uuid, 'too late', 'm1')
    assert.deepEqual([late.status, late.duplicate], ['completed', true])
  },
  async 'a task fails'() {
    const made = await rtx.webhook.triggerAgent({ raw_data: {} })
    assert.equal((await rtx.task.fail(made.task_uuid, 'no such customer')).status, 'failed')
    assert.equal((await rtx.api.getTask(made.task_uuid)).error, 'no such customer')
    assert.match((await fails(() => rtx.task.complete('00000000-0000-4000-8000-000000000000', {}))).message, /not found/)
  },
  async 'auto_run needs an agent and a workspace that exist'() {
    const start = more => rtx.webhook.triggerAgent({ raw_data: {}, auto_run: true, agent_name: 'echo', workspace_slug: 'default', ...more })
    assert.equal((await fails(() => start({ agent_name: 'nobody' }))).message, 'Agent not found')
    assert.equal((await fails(() => start({ workspace_slug: 'nowhere' }))).message, 'Workspace not found')
    assert.equal((await fails(() => start({ thread_slug: 'no thread' }))).message, 'Thread not found')
  },
  async 'webhook ping'() {
    assert.deepEqual(await rtx.webhook.ping(), { success: true, app_name: 'Demo', message: 'pong' })
  },
  async activities() {
    const row = await rtx.activities.insert({ type: 'order', deep: [1, { a: 'é' }] })
    assert.deepEqual([row.status, row.raw_data, row.attempted_by, row.retry_count], ['pending', { type: 'order', deep: [1, { a: 'é' }] }, [], 0])
    assert.match(row.created_at, /Z$/)
    const second = await rtx.activities.insert({ type: 'second' })
    const rows = await rtx.activities.list()
    assert.deepEqual(rows.slice(0, 2).map(one => one.id), [second.id, row.id], 'newest first')
    const changed = await rtx.activities.update(row.id, { status: 'processed', result: { x: 1 }, locked_at: '2026-01-01T00:00:00Z', unknown: 1 })
    assert.deepEqual([changed.status, changed.result, changed.locked_at], ['processed', { x: 1 }, '2026-01-01T00:00:00.000Z'])
    assert.deepEqual((await rtx.activities.list({ status: 'processed', limit: 5 })).map(one => one.id), [row.id])
    assert.equal((await rtx.activities.get(row.id)).status, 'processed')
    await rtx.activities.delete(row.id)
    assert.equal(await rtx.activities.get(row.id), null)
    assert.equal(await rtx.activities.get('nope'), null)
    assert.equal((await fails(() => rtx.activities.delete(row.id))).message, 'Activity not found')
    assert.equal((await fails(() => rtx.activities.update(row.id, { status: 'x' }))).message, 'Activity not found')
    await rtx.activities.delete(second.id)
  },
  async 'no language model is configured'() {
    assert.deepEqual((await rtx.llm.chatProviders()).providers, [])
    assert.deepEqual((await rtx.llm.embedProviders()).providers, [])
    const none = /No LLM provider is configured/
    assert.match((await fails(() => rtx.llm.chat([{ role: 'user', content: 'hi' }]))).message, none)
    assert.match((await fails(() => rtx.llm.embed(['hi']))).message, none)
    const stream = await fails(async () => {
      for await (const chunk of rtx.llm.chatStream([{ role: 'user', content: 'hi' }])) assert.fail(JSON.stringify(chunk))
    })
    assert.match(stream.message, none)
  },
  async 'no vector store is configured'() {
    const { vectors } = rtx.llm
    assert.deepEqual((await vectors.listProviders()).providers, [])
    for (const call of [
      () => vectors.upsert([{ id: 'a', vector: [1], metadata: {} }]), () => vectors.query([1]), () => vectors.listWorkspaces(),
      () => vectors.delete({ deleteAll: true }), () => vectors.registerConfig('lancedb', {}), () => vectors.getConfig(),
    ]) {
      assert.match((await fails(call)).message, /No LLM provider/)
    }
  },
  async 'no voices'() {
    assert.deepEqual(await rtx.tts.listProviders(), [])
  },
  async 'a base URL that ends in a slash'() {
    const slash = sdk({ realtimex: { url: `${env.RTX_TEST_URL}/`, appName: 'Demo' } })
    assert.deepEqual((await slash.llm.chatProviders()).providers, [])
    assert.equal((await slash.ping()).success, true)
  },
})
