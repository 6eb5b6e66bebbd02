// What applications do with supabase-js and the database, against the fixture of the REST tests.
import assert from 'node:assert/strict'
import { PostgrestClient } from '@supabase/postgrest-js'
import { client, env, fails, ok, run, url } from './check.mjs'

const anon = client()
const service = client(env.SERVICE_ROLE_KEY)
const ids = (answer) => ok(answer).map((row) => row.id)
const kinds = () => anon.from('kinds').select('id').order('id')

const filters = {
  eq: [kinds().eq('i', 1), [1]],
  neq: [kinds().neq('i', 1), [2]],
  gt: [kinds().gt('i', 1), [2]],
  gte: [kinds().gte('i', 1), [1, 2]],
  lt: [kinds().lt('i', 2), [1]],
  lte: [kinds().lte('i', 1), [1]],
  like: [kinds().like('t', '%ne'), [1]],
  likeAnyOf: [kinds().likeAnyOf('t', ['o%', 't%']), [1, 2]],
  likeAllOf: [kinds().likeAllOf('t', ['o%', '%e']), [1]],
  ilike: [kinds().ilike('t', 'ONE'), [1]],
  ilikeAnyOf: [kinds().ilikeAnyOf('t', ['O%', 'T%']), [1, 2]],
  ilikeAllOf: [kinds().ilikeAllOf('t', ['O%', '%E']), [1]],
  is: [kinds().is('i', null), [3]],
  isTrue: [kinds().is('b', true), [1]],
  in: [kinds().in('t', ['one', 'a,b (c)', 'two']), [1, 2]],
  inEmpty: [kinds().in('i', []), []],
  containsArray: [kinds().contains('a', [2]), [1, 2]],
  containsJson: [kinds().contains('jb', { k: { x: 2 } }), [2]],
  containsRange: [kinds().contains('r', '[2,3)'), [1]],
  containedBy: [kinds().containedBy('a', [1, 2, 9]), [1]],
  rangeGt: [kinds().rangeGt('r', '[1,5)'), [2]],
  rangeGte: [kinds().rangeGte('r', '[5,10)'), [2]],
  rangeLt: [kinds().rangeLt('r', '[5,10)'), [1]],
  rangeLte: [kinds().rangeLte('r', '[1,5)'), [1]],
  rangeAdjacent: [kinds().rangeAdjacent('r', '[10,20)'), [2]],
  overlapsArray: [kinds().overlaps('a', [3]), [2]],
  overlapsRange: [kinds().overlaps('r', '[4,6)'), [1, 2]],
  textSearch: [kinds().textSearch('v', "'fat' & 'cat'", { config: 'english' }), [1]],
  textSearchPlain: [kinds().textSearch('v', 'fat cat', { type: 'plain', config: 'english' }), [1]],
  textSearchPhrase: [kinds().textSearch('v', 'fat cat', { type: 'phrase', config: 'english' }), [1]],
  textSearchWeb: [kinds().textSearch('v', 'dog or cat', { type: 'websearch', config: 'english' }), [1, 2]],
  match: [kinds().match({ i: 1, t: 'one' }), [1]],
  not: [kinds().not('i', 'is', null), [1, 2]],
  notIn: [kinds().not('i', 'in', '(1,5)'), [2]],
  or: [kinds().or('i.eq.1,and(i.eq.2,t.eq.two)'), [1, 2]],
  filter: [kinds().filter('i', 'in', '(1,2)'), [1, 2]],
  json: [kinds().eq('jb->k->>x', '1'), [1]],
}

const checks = Object.fromEntries(
  Object.entries(filters).map(([name, [query, expected]]) => [
    `filter ${name}`,
    async () => assert.deepEqual(ids(await query), expected),
  ]),
)

Object.assign(checks, {
  async 'select columns, aliases, casts and json'() {
    const row = ok(await anon.from('kinds').select('id, text:t, n::text, jb->k->x, first:jb->l->>0').eq('id', 1).single(), 200)
    assert.deepEqual(row, { id: 1, text: 'one', n: '1.5', x: 1, first: '10' })
  },
  async 'select * and row of every type'() {
    const row = ok(await anon.from('kinds').select().eq('id', 1).single())
    assert.deepEqual(row.jb, { k: { x: 1 }, l: [10, 20], 'a b': 'c' })
    assert.deepEqual([row.a, row.ta, row.r, row.m, row.d], [[1, 2], ['a', 'b'], '[1,5)', 'happy', '2020-01-01'])
  },
  async 'order, limit, range'() {
    assert.deepEqual(ids(await anon.from('tasks').select('id').order('done', { nullsFirst: true }).order('id', { ascending: false }).limit(3)), [8, 7, 3])
    assert.deepEqual(ids(await anon.from('tasks').select('id').order('id').range(2, 4)), [3, 4, 5])
    assert.deepEqual(ids(await anon.from('tasks').select('id').limit(0)), [])
    assert.deepEqual(
      ok(await anon.from('projects').select('id, clients(name)').order('clients(name)').order('id', { ascending: false }).limit(1)),
      [{ id: 4, clients: { name: 'Apple' } }],
    )
  },
  async 'counts'() {
    assert.equal((await anon.from('tasks').select('*', { count: 'exact', head: true })).count, 8)
    assert.equal((await anon.from('tasks').select('*', { count: 'exact', head: true }).eq('id', 99)).count, 0)
    assert.deepEqual(ok(await anon.from('tasks').select('id', { count: 'exact' }).order('id').range(0, 1), 206), { data: [{ id: 1 }, { id: 2 }], count: 8 })
    assert.equal((await anon.from('many').select('id', { count: 'planned' }).limit(1)).count, 1500)
    assert.equal((await anon.from('many').select('id', { count: 'estimated' }).limit(1)).count, 1500)
    fails(await anon.from('tasks').select('id', { count: 'exact' }).range(20, 30), 'PGRST103', 416)
  },
  async 'single and maybeSingle'() {
    fails(await anon.from('clients').select().single(), 'PGRST116', 406)
    fails(await anon.from('clients').select().eq('id', 99).single(), 'PGRST116', 406)
    assert.equal(ok(await anon.from('clients').select().eq('id', 99).maybeSingle()), null)
    assert.equal(ok(await anon.from('clients').select().eq('id', 1).maybeSingle()).name, 'Microsoft')
    fails(await anon.from('clients').select().maybeSingle(), 'PGRST116')
  },
  async 'stripNulls and csv'() {
    assert.deepEqual(ok(await anon.from('items').select('id, note').eq('id', 1).stripNulls()), [{ id: 1 }])
    assert.equal(ok(await anon.from('items').select('id, code').order('id').limit(2).csv()), 'id,code\n1,a\n2,b')
  },
  async 'embeds'() {
    const rows = ok(
      await anon
        .from('clients')
        .select('name, projects(id, tasks(id, done))')
        .eq('projects.name', 'Windows 7')
        .order('id')
        .order('id', { referencedTable: 'projects' })
        .limit(1, { referencedTable: 'projects.tasks' })
        .order('id', { referencedTable: 'projects.tasks' }),
    )
    assert.deepEqual(rows, [
      { name: 'Microsoft', projects: [{ id: 1, tasks: [{ id: 1, done: true }] }] },
      { name: 'Apple', projects: [] },
    ])
    assert.deepEqual(ok(await anon.from('users').select('name, tasks(name)').eq('id', 3)), [{ name: 'Dwight', tasks: [] }])
    assert.deepEqual(
      ok(await anon.from('messages').select('body, from:users!messages_sender_fkey(name), to:users!recipient(name)').eq('id', 1)),
      [{ body: 'hi', from: { name: 'Angela' }, to: { name: 'Michael' } }],
    )
    assert.deepEqual(ids(await anon.from('projects').select('id, clients!inner(id)').eq('clients.name', 'Apple').order('id')), [3, 4])
    assert.deepEqual(ids(await anon.from('projects').select('id, clients()').is('clients', null)), [5])
    assert.deepEqual(
      ok(await anon.from('clients').select('id, projects(id)').or('id.eq.1,id.eq.3', { referencedTable: 'projects' }).order('id')),
      [{ id: 1, projects: [{ id: 1 }] }, { id: 2, projects: [{ id: 3 }] }],
    )
    assert.deepEqual(ok(await anon.from('clients').select('id, projects(count)').order('id').limit(1)), [{ id: 1, projects: [{ count: 2 }] }])
    assert.deepEqual(ok(await anon.from('projects').select('id, ...clients(client:name)').eq('id', 3)), [{ id: 3, client: 'Apple' }])
    fails(await anon.from('messages').select('users(*)'), 'PGRST201', 300)
    fails(await anon.from('messages').select('nothing(*)'), 'PGRST200', 400)
  },
  async 'insert'() {
    const quiet = await anon.from('items').insert({ id: 100, code: 'js' })
    assert.deepEqual([quiet.status, quiet.statusText, quiet.data], [201, 'Created', null])
    assert.deepEqual(ok(await anon.from('items').insert([{ id: 101 }, { id: 102, code: 'js2' }]).select('id, code, amount'), 201), [
      { id: 101, code: null, amount: 7 },
      { id: 102, code: 'js2', amount: 7 },
    ])
    assert.deepEqual(ok(await anon.from('items').insert([{ id: 108 }, { id: 109, amount: 1 }]).select('id, amount')), [
      { id: 108, amount: null },
      { id: 109, amount: 1 },
    ])
    assert.deepEqual(ok(await anon.from('items').insert([{ id: 103 }, { id: 104, amount: 1 }], { defaultToNull: false }).select('id, amount')), [
      { id: 103, amount: 7 },
      { id: 104, amount: 1 },
    ])
    assert.equal((await anon.from('items').insert([{ id: 105 }, { id: 106 }], { count: 'exact' })).count, 2)
    assert.deepEqual(ok(await anon.from('items').insert({ id: 107 }).select('id').single()), { id: 107 })
    fails(await anon.from('items').insert({ id: 100 }), '23505', 409)
    fails(await anon.from('items').insert({ nope: 1 }), 'PGRST204', 400)
    fails(await anon.from('tasks').insert({ id: 99, name: 'x', project_id: 99 }), '23503', 409)
  },
  async 'upsert'() {
    assert.deepEqual(ok(await anon.from('items').upsert({ id: 1, note: 'u' }).select('id, note'), 200), [{ id: 1, note: 'u' }])
    assert.deepEqual(ok(await anon.from('items').upsert([{ id: 1, note: 'v' }, { id: 110, note: 'v' }]).select('id')), [{ id: 1 }, { id: 110 }])
    assert.deepEqual(ok(await anon.from('items').upsert({ id: 1, note: 'w' }, { ignoreDuplicates: true }).select('id')), [])
    assert.deepEqual(ok(await anon.from('items').upsert({ id: 111, code: 'b', note: 'x' }, { onConflict: 'code' }).select('id')), [{ id: 111 }])
    fails(await anon.from('items').upsert({ id: 1, note: 'y' }, { onConflict: 'note' }), '42P10', 400)
  },
  async 'update and delete'() {
    assert.equal((await anon.from('items').update({ note: 'n' }).eq('id', 3)).status, 204)
    assert.deepEqual(ok(await anon.from('items').update({ note: 'm' }).eq('id', 3).eq('note', 'other').select('id'), 200), [])
    assert.deepEqual(ok(await anon.from('items').update({ note: 'm' }).eq('id', 3).eq('note', 'n').select('id, note')), [{ id: 3, note: 'm' }])
    assert.equal((await anon.from('items').update({ note: 'o' }, { count: 'exact' }).in('id', [3, 100])).count, 2)
    fails(await anon.from('items').update({ note: 'p' }).in('id', [3, 100]).maxAffected(1), 'PGRST124', 400)
    assert.deepEqual(ok(await anon.from('items').delete().eq('id', 107).select('id'), 200), [{ id: 107 }])
    assert.equal((await anon.from('items').delete().eq('id', 106)).status, 204)
    assert.equal((await anon.from('items').delete({ count: 'exact' }).eq('id', 105)).count, 1)
  },
  async 'functions'() {
    assert.equal(ok(await anon.rpc('add', { a: 1, b: 2 })), 3)
    assert.equal(ok(await anon.rpc('add', { a: 1 }, { get: true })), 11)
    assert.equal(ok(await anon.rpc('hello')), 'hello')
    const nothing = await anon.rpc('nothing')
    assert.deepEqual([nothing.status, nothing.data, nothing.error], [204, null, null])
    assert.deepEqual(ok(await anon.rpc('a_json')), { a: [1, 2] })
    assert.equal(ok(await anon.rpc('null_json')), null)
    assert.deepEqual(ok(await anon.rpc('numbers')), [1, 2, 3])
    assert.deepEqual(ok(await anon.rpc('one_project', { p_id: 3 })), { id: 3, name: 'IOS', client_id: 2 })
    assert.deepEqual(ok(await anon.rpc('all_projects').select('id, clients(name)').eq('id', 3)), [{ id: 3, clients: { name: 'Apple' } }])
    assert.deepEqual(ok(await anon.rpc('all_projects').select('id').order('id', { ascending: false }).limit(2)), [{ id: 5 }, { id: 4 }])
    assert.deepEqual(ok(await anon.rpc('all_projects', {}, { count: 'exact' }).select('id').order('id').range(0, 0)), { data: [{ id: 1 }], count: 5 })
    assert.equal((await anon.rpc('all_projects', undefined, { head: true, count: 'exact' })).count, 5)
    assert.equal(ok(await anon.rpc('array_length_of', { arr: [1, 2, 3] })), 3)
    assert.equal(ok(await anon.rpc('array_length_of', { arr: [1, 2, 3] }, { get: true })), 3)
    assert.equal(ok(await anon.rpc('row_arg', { p: { id: 1, name: 'n' } })), 'n')
    assert.deepEqual(ok(await anon.rpc('as_table', { lowest: 5 }).single()), { id: 5, doubled: 10 })
    const error = fails(await anon.rpc('fails'), 'P0001', 400)
    assert.deepEqual([error.message, error.details, error.hint], ['no way', 'd', 'h'])
    fails(await anon.rpc('missing_function'), 'PGRST202', 404)
    fails(await anon.rpc('add_item', { p_id: 200, p_code: 'x' }, { get: true }), '25006', 405)
  },
  async 'schemas'() {
    assert.deepEqual(ok(await anon.schema('other').from('things').select()), [{ id: 1, name: 'thing' }])
    const other = client(env.ANON_KEY, { db: { schema: 'other' } })
    assert.deepEqual(ok(await other.from('things').insert({ id: 2, name: 'two' }).select('id')), [{ id: 2 }])
    fails(await anon.schema('hidden').from('things').select(), 'PGRST106', 406)
  },
  async 'errors'() {
    fails(await anon.from('nope').select(), 'PGRST205', 404)
    fails(await anon.from('items').select('nope'), '42703', 400)
    fails(await anon.from('items').select().eq('id', 'x'), '22P02', 400)
    const denied = fails(await anon.from('secrets').select(), '42501', 401)
    assert.equal(denied.message, 'permission denied for table secrets')
    await assert.rejects(async () => { await anon.from('nope').select().throwOnError() })
  },
  async 'row level security by role'() {
    assert.deepEqual(ok(await anon.from('notes').select()), [])
    fails(await anon.from('notes').insert({ text: 'x' }), '42501', 401)
    assert.equal((await service.from('notes').insert({ text: 'by service' })).status, 201)
    assert.deepEqual(ok(await anon.from('notes').select()), [])
    assert.equal(ok(await service.from('notes').select()).length, 1)
  },
  async 'the new keys and a token of the application'() {
    assert.equal(ok(await client(env.PUBLISHABLE_KEY).rpc('whoami')).user, 'anon')
    assert.equal(ok(await client(env.SECRET_KEY).rpc('whoami')).user, 'service_role')
    const own = client(env.ANON_KEY, { accessToken: async () => env.SERVICE_ROLE_KEY, auth: undefined })
    assert.equal(ok(await own.rpc('whoami')).user, 'service_role')
  },
  async 'bare postgrest-js without a key'() {
    const bare = new PostgrestClient(`${url}/rest/v1`)
    assert.equal(ok(await bare.rpc('whoami')).user, 'anon')
    assert.deepEqual(ok(await bare.from('clients').select('id').order('id')), [{ id: 1 }, { id: 2 }])
  },
  async 'abort and headers'() {
    const abort = new AbortController()
    const waiting = anon.rpc('sleep', { seconds: 2 }).abortSignal(abort.signal)
    setTimeout(() => abort.abort(), 50)
    assert.match((await waiting).error.message, /abort/i)
    assert.equal(
      JSON.parse(ok(await anon.rpc('request_setting', { name: 'request.headers' }).setHeader('x-mine', 'yes')))['x-mine'],
      'yes',
    )
  },
})

await run(checks)
