// supabase-js against the Realtime server, in the protocol version named by VSN.

import assert from 'node:assert/strict'
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

import { expected, inbox, run, sql, subscribed } from './bridge.mjs'

const { URL: url, ANON_KEY: anonKey, SERVICE_KEY: serviceKey, ANN_TOKEN: ann, BOB_TOKEN: bob, VSN: vsn } = process.env

function client(key = anonKey, options = {}) {
  const realtime = { transport: ws, ...(vsn === '1.0.0' ? { vsn } : {}), ...options }
  return createClient(url, key, { realtime, auth: { persistSession: false, autoRefreshToken: false } })
}

const members = (channel) => Object.keys(channel.presenceState()).sort()

await run({
  async 'broadcast between two clients, with self and acknowledgement'() {
    const [one, two] = [client(), client()]
    const received = inbox('broadcast')
    const own = inbox('own broadcast')
    const listener = two.channel('room').on('broadcast', { event: 'note' }, (message) => received.put(message))
    const sender = one
      .channel('room', { config: { broadcast: { self: true, ack: true } } })
      .on('broadcast', { event: '*' }, (message) => own.put(message))
    await Promise.all([subscribed(listener), subscribed(sender)])
    assert.equal(await sender.send({ type: 'broadcast', event: 'note', payload: { n: 1, text: 'ž"\\' } }), 'ok')
    assert.deepEqual((await received.take()).payload, { n: 1, text: 'ž"\\' })
    assert.equal((await own.take()).event, 'note')
    assert.equal(await one.removeChannel(sender), 'ok')
    assert.equal(await two.removeAllChannels().then((all) => all.join()), 'ok')
  },

  async 'raw bytes reach clients of version 2'() {
    if (vsn === '1.0.0') return
    const [one, two] = [client(), client()]
    const received = inbox('bytes')
    const listener = two.channel('bytes').on('broadcast', { event: 'raw' }, (message) => received.put(message))
    const sender = one.channel('bytes')
    await Promise.all([subscribed(listener), subscribed(sender)])
    await sender.send({ type: 'broadcast', event: 'raw', payload: new Uint8Array([1, 2, 255]).buffer })
    const { payload } = await received.take()
    assert.deepEqual([...new Uint8Array(payload)], [1, 2, 255])
    await Promise.all([one.removeAllChannels(), two.removeAllChannels()])
  },

  async 'broadcast over HTTP, from a channel that is not joined'() {
    const [one, two] = [client(), client()]
    const received = inbox('broadcast')
    const listener = two.channel('a:b/c').on('broadcast', { event: 'e/v' }, (message) => received.put(message))
    await subscribed(listener)
    const sender = one.channel('a:b/c')
    assert.equal(await sender.send({ type: 'broadcast', event: 'e/v', payload: { n: 1 } }), 'ok')
    assert.deepEqual((await received.take()).payload, { n: 1 })
    const sent = await sender.httpSend('e/v', { n: 2 })
    assert.deepEqual(sent, { success: true })
    assert.deepEqual((await received.take()).payload, { n: 2 })
    await two.removeAllChannels()
  },

  async 'presence of two clients'() {
    const [one, two] = [client(), client()]
    const synced = inbox('presence sync')
    const joins = inbox('presence join')
    const leaves = inbox('presence leave')
    const watcher = two
      .channel('hall', { config: { presence: { key: 'watcher' } } })
      .on('presence', { event: 'sync' }, () => synced.put(members(watcher)))
      .on('presence', { event: 'join' }, (join) => joins.put(join))
      .on('presence', { event: 'leave' }, (leave) => leaves.put(leave))
    await subscribed(watcher)
    assert.deepEqual(await synced.take(), [])
    assert.equal(await watcher.track({ role: 'watcher' }), 'ok')
    assert.equal((await joins.take()).key, 'watcher')
    const worker = one.channel('hall', { config: { presence: { key: 'worker' } } })
    await subscribed(worker)
    assert.equal(await worker.track({ job: 1 }), 'ok')
    const joined = await joins.take()
    assert.equal(joined.key, 'worker')
    assert.equal(joined.newPresences[0].job, 1)
    assert.equal(await worker.track({ job: 2 }), 'ok')
    assert.equal((await joins.take()).newPresences[0].job, 2)
    assert.equal((await leaves.take()).leftPresences[0].job, 1)
    assert.deepEqual(members(watcher), ['watcher', 'worker'])
    assert.equal(await worker.untrack(), 'ok')
    assert.equal((await leaves.take()).key, 'worker')
    await Promise.all([one.removeAllChannels(), two.removeAllChannels()])
  },

  async 'changes of rows, filtered and converted'() {
    const supabase = client()
    const all = inbox('change')
    const some = inbox('filtered change')
    const channel = supabase
      .channel('rows')
      .on('postgres_changes', { event: '*', schema: 'public', table: 'items' }, (change) => all.put(change))
      .on('postgres_changes', { event: 'UPDATE', schema: 'public', table: 'items', filter: 'id=eq.2' }, (change) =>
        some.put(change)
      )
    await subscribed(channel)
    await sql("insert into items values (1, 'a', '{1,2}', '2026-01-02 03:04:05', 1.50, '{\"k\": [1]}', true)")
    await sql("insert into items values (2, 'b')")
    await sql("update items set name = 'c'")
    await sql('delete from items')
    const first = await all.take()
    assert.equal(first.eventType, 'INSERT')
    assert.deepEqual(first.new, {
      id: 1,
      name: 'a',
      list: [1, 2],
      at: '2026-01-02T03:04:05',
      amount: 1.5,
      data: { k: [1] },
      flag: true,
    })
    assert.deepEqual(first.old, {})
    assert.equal(first.errors, null)
    assert.match(first.commit_timestamp, /Z$/)
    assert.equal((await all.take()).new.name, 'b')
    assert.deepEqual((await some.take()).old, { id: 2 })
    const kinds = []
    for (let n = 0; n < 4; n += 1) kinds.push((await all.take()).eventType)
    assert.deepEqual(kinds, ['UPDATE', 'UPDATE', 'DELETE', 'DELETE'])
    assert.equal(some.length, 0)
    await supabase.removeAllChannels()
  },

  async 'a join that waits says when the table is not published'() {
    const supabase = client()
    const told = expected('CHANNEL_ERROR')
    const channel = supabase
      .channel('waiting', { config: { postgres_changes_options: { wait: true } } })
      .on('postgres_changes', { event: '*', schema: 'public', table: 'missing' }, () => {})
    channel.subscribe((status, error) => status === 'CHANNEL_ERROR' && told.resolve(error))
    assert.match((await told.promise).message, /RealtimeDisabledForConfiguration/)
    await supabase.removeAllChannels()
  },

  async 'row level security and a new token'() {
    const supabase = client()
    await supabase.realtime.setAuth(ann)
    const notes = inbox('note')
    const subscriptions = inbox('notice')
    const channel = supabase
      .channel('notes')
      .on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'notes' }, (change) => notes.put(change.new))
      .on('system', {}, (notice) => subscriptions.put(notice))
    await subscribed(channel)
    assert.equal((await subscriptions.take()).message, 'Subscribed to PostgreSQL')
    await sql("insert into notes values (1, 'bob'), (2, 'ann')")
    assert.equal((await notes.take()).id, 2)
    await supabase.realtime.setAuth(bob)
    assert.equal((await subscriptions.take()).status, 'ok')
    await sql("insert into notes values (3, 'ann'), (4, 'bob')")
    assert.equal((await notes.take()).id, 4)
    await supabase.removeAllChannels()
  },

  async 'private channels, messages from SQL and replay'() {
    const supabase = client()
    await supabase.realtime.setAuth(ann)
    const messages = inbox('message')
    const channel = supabase
      .channel('room:ann', { config: { private: true, broadcast: { ack: true } } })
      .on('broadcast', { event: '*' }, (message) => messages.put(message))
    await subscribed(channel)
    await sql("select realtime.send('{\"n\": 1}', 'stored', 'room:ann')")
    const stored = await messages.take()
    assert.equal(stored.payload.n, 1)
    assert.equal(stored.meta.id, stored.payload.id)
    const later = client(serviceKey)
    const replayed = inbox('replayed message')
    const again = later
      .channel('room:ann', { config: { private: true, broadcast: { replay: { since: 0, limit: 5 } } } })
      .on('broadcast', { event: '*' }, (message) => replayed.put(message))
    await subscribed(again)
    const replay = await replayed.take()
    assert.equal(replay.payload.n, 1)
    assert.equal(replay.meta.replayed, true)
    const refused = expected('CHANNEL_ERROR')
    const foreign = supabase.channel('room:bob', { config: { private: true } })
    foreign.subscribe((status, error) => status === 'CHANNEL_ERROR' && refused.resolve(error))
    assert.match((await refused.promise).message, /Unauthorized/)
    await Promise.all([supabase.removeAllChannels(), later.removeAllChannels()])
  },

  async 'sockets that are cut come back with their channels'() {
    const supabase = client()
    const rows = inbox('change')
    const states = inbox('state')
    const channel = supabase
      .channel('comeback')
      .on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'items' }, (change) => rows.put(change.new))
    channel.subscribe((status) => status === 'SUBSCRIBED' && states.put(status))
    await states.take()
    // As a network does it: without a word.
    supabase.realtime.socketAdapter.getSocket().conn.terminate()
    await states.take()
    await sql('insert into items values (77); delete from items')
    assert.equal((await rows.take()).id, 77)
    await supabase.removeAllChannels()
  },
})
