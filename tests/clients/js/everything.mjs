// One walk through all three services, as a page or a program would make it: signing up, rows under row level security,
// changes, broadcast, presence. Runs in Node (stack.mjs) and in browsers (page.html), so it imports nothing of either.

const PATIENCE_MS = 20_000

function check(holds, what) {
  if (!holds) throw new Error(what)
}

function same(seen, wanted, what) {
  const [a, b] = [JSON.stringify(seen), JSON.stringify(wanted)]
  check(a === b, `${what}: ${a}, not ${b}`)
}

/** Calls `start` with a function that ends the wait. */
function within(what, start) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} within ${PATIENCE_MS} ms`)), PATIENCE_MS)
    start((value) => {
      clearTimeout(timer)
      resolve(value)
    })
  })
}

const subscribed = (channel) =>
  within(`subscription to ${channel.topic}`, (done) =>
    channel.subscribe((status) => {
      if (status === 'SUBSCRIBED') done()
    }),
  )

/** Needs the table `public.diary (id, owner default auth.uid(), text)`, whose rows only their owner may touch. */
export async function everything(createClient, { url, key, options = {} }) {
  const connect = (storageKey) =>
    createClient(url, key, { ...options, auth: { persistSession: false, autoRefreshToken: false, storageKey } })
  const [ann, bob] = [connect('ann'), connect('bob')]

  const stranger = await bob.from('diary').insert({ text: 'not mine' })
  same(stranger.error?.code, '42501', 'anon may not write')
  same((await bob.from('diary').select()).data, [], 'anon sees nothing')

  const password = 'correct horse battery'
  for (const [name, client] of [['ann', ann], ['bob', bob]]) {
    const email = `${name}-${crypto.randomUUID()}@example.com`
    const { error } = await client.auth.signUp({ email, password })
    check(!error, `${name} signs up: ${error?.message}`)
    const again = await client.auth.signInWithPassword({ email, password })
    check(!again.error && again.data.user.email === email, `${name} signs in: ${again.error?.message}`)
  }

  const seen = { ann: [], bob: [] }
  let changed = () => {}
  for (const [name, client] of [['ann', ann], ['bob', bob]]) {
    await client.realtime.setAuth((await client.auth.getSession()).data.session.access_token)
    const channel = client.channel('diary').on('postgres_changes', { event: '*', schema: 'public', table: 'diary' }, (change) => {
      seen[name].push(`${change.eventType} ${change.new.text}`)
      changed()
    })
    await subscribed(channel)
  }
  const { data: row, error } = await ann.from('diary').insert({ text: 'dear diary' }).select().single()
  check(!error, `ann writes: ${error?.message}`)
  same((await bob.from('diary').select()).data, [], "bob does not see ann's row")
  same((await bob.from('diary').update({ text: 'stolen' }).eq('id', row.id).select()).data, [], 'nor changes it')
  const { error: update } = await ann.from('diary').update({ text: 'dearest diary' }).eq('id', row.id)
  check(!update, `ann changes it: ${update?.message}`)
  const { error: his } = await bob.from('diary').insert({ text: "bob's" })
  check(!his, `bob writes: ${his?.message}`)
  await within('three changes', (done) => {
    changed = () => seen.ann.length >= 2 && seen.bob.length >= 1 && done()
    changed()
  })
  same(seen.ann, ['INSERT dear diary', 'UPDATE dearest diary'], 'ann hears of her row')
  same(seen.bob, ["INSERT bob's"], 'bob hears of his')

  const listener = bob.channel('lobby')
  const heard = within('broadcast', (done) => listener.on('broadcast', { event: 'hello' }, ({ payload }) => done(payload)))
  const present = within('presence of ann', (done) =>
    listener.on('presence', { event: 'sync' }, () => {
      const names = Object.values(listener.presenceState()).flat().map((one) => one.name)
      if (names.includes('ann')) done()
    }),
  )
  await subscribed(listener)
  const lobby = ann.channel('lobby', { config: { broadcast: { ack: true }, presence: { key: 'ann' } } })
  await subscribed(lobby)
  same(await lobby.track({ name: 'ann' }), 'ok', 'presence is taken')
  await present
  same(await lobby.send({ type: 'broadcast', event: 'hello', payload: { n: 1 } }), 'ok', 'broadcast is acknowledged')
  same(await heard, { n: 1 }, 'what bob hears')

  const { error: refresh } = await ann.auth.refreshSession()
  check(!refresh, `the session is refreshed: ${refresh?.message}`)
  same((await ann.from('diary').select('text')).data, [{ text: 'dearest diary' }], 'and still counts')
  await Promise.all([ann.removeAllChannels(), bob.removeAllChannels()])
  check(!(await ann.auth.signOut()).error, 'ann signs out')
  same((await ann.from('diary').select()).data, [], 'and sees nothing any more')
}
