// An app that has no permission yet: its calls wait until a person decides, then go on by themselves.
import assert from 'node:assert/strict'
import { fails, run, sdk } from './check.mjs'

const rtx = sdk()

await run({
  async 'several calls at once share one question'() {
    const answers = await Promise.all([rtx.api.getAgents(), rtx.api.getAgents(), rtx.api.getAgents()])
    assert.deepEqual(answers.map(agents => agents[0].slug), ['echo', 'echo', 'echo'])
  },
  async 'a denial is an error'() {
    const error = await fails(() => rtx.api.getWorkspaces())
    assert.equal(error.permission, 'api.workspaces')
  },
})
