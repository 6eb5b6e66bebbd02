// What applications do with supabase-js and users.
import assert from 'node:assert/strict'
import { client, env, ok, run } from './check.mjs'

const password = 'correct horse'
let made = 0
const email = () => `js${(made += 1)}@example.com`

/** A client with a new user signed in. */
async function signedUp() {
  const supabase = client()
  const address = email()
  const { data, error } = await supabase.auth.signUp({ email: address, password, options: { data: { name: 'A' } } })
  assert.equal(error, null)
  return { supabase, address, data }
}

await run({
  async 'sign up, act as the user, sign out'() {
    const { supabase, address, data } = await signedUp()
    assert.equal(data.user.email, address)
    assert.equal(data.user.user_metadata.name, 'A')
    const who = ok(await supabase.rpc('whoami'))
    assert.deepEqual([who.user, who.uid, who.email], ['authenticated', data.user.id, address])
    assert.deepEqual(ok(await supabase.from('notes').insert({ text: 'mine' }).select('owner, text')), [{ owner: data.user.id, text: 'mine' }])
    const other = (await signedUp()).supabase
    assert.deepEqual(ok(await other.from('notes').select()), [])
    assert.deepEqual(ok(await other.from('notes').update({ text: 'stolen' }).gt('id', 0).select()), [])
    assert.equal((await supabase.auth.signOut()).error, null)
    assert.equal(ok(await supabase.rpc('whoami')).user, 'anon')
  },
  async 'sign in with a password'() {
    const { address } = await signedUp()
    const supabase = client(env.PUBLISHABLE_KEY)
    const { data, error } = await supabase.auth.signInWithPassword({ email: address, password })
    assert.equal(error, null)
    assert.equal(data.session.token_type, 'bearer')
    assert.equal((await supabase.auth.getUser()).data.user.email, address)
    const wrong = await client().auth.signInWithPassword({ email: address, password: 'wrong' })
    assert.deepEqual([wrong.error.code, wrong.error.status, wrong.error.message], ['invalid_credentials', 400, 'Invalid login credentials'])
    assert.equal((await client().auth.signUp({ email: address, password })).error.code, 'user_already_exists')
    const weak = (await client().auth.signUp({ email: email(), password: 'x' })).error
    assert.deepEqual([weak.code, weak.name, weak.reasons], ['weak_password', 'AuthWeakPasswordError', ['length']])
  },
  async 'claims'() {
    const { supabase, data } = await signedUp()
    const { data: claims, error } = await supabase.auth.getClaims()
    assert.equal(error, null)
    assert.equal(claims.claims.sub, data.user.id)
  },
  async 'refresh'() {
    const { supabase, data } = await signedUp()
    const { data: next, error } = await supabase.auth.refreshSession()
    assert.equal(error, null)
    assert.notEqual(next.session.refresh_token, data.session.refresh_token)
    const set = await client().auth.setSession({ access_token: next.session.access_token, refresh_token: next.session.refresh_token })
    assert.equal(set.data.user.id, data.user.id)
    const unknown = await client().auth.refreshSession({ refresh_token: 'nosuchtoken1' })
    assert.equal(unknown.error.code, 'refresh_token_not_found')
  },
  async 'anonymous, then somebody'() {
    const supabase = client()
    const { data, error } = await supabase.auth.signInAnonymously({ options: { data: { theme: 'dark' } } })
    assert.equal(error, null)
    assert.equal(data.user.is_anonymous, true)
    const address = email()
    const update = await supabase.auth.updateUser({ email: address, password })
    assert.equal(update.error, null)
    assert.deepEqual([update.data.user.email, update.data.user.is_anonymous], [address, false])
  },
  async 'update'() {
    const { supabase, address } = await signedUp()
    assert.equal((await supabase.auth.updateUser({ data: { age: 5 } })).data.user.user_metadata.age, 5)
    assert.equal((await supabase.auth.updateUser({ password })).error.code, 'same_password')
    assert.equal((await supabase.auth.updateUser({ password: 'another one' })).error, null)
    assert.equal((await client().auth.signInWithPassword({ email: address, password: 'another one' })).error, null)
  },
  async 'admin'() {
    for (const key of [env.SERVICE_ROLE_KEY, env.SECRET_KEY]) {
      const { admin } = client(key).auth
      const address = email()
      const { data, error } = await admin.createUser({ email: address, password, email_confirm: true, app_metadata: { plan: 'pro' } })
      assert.equal(error, null)
      assert.equal(data.user.app_metadata.plan, 'pro')
      assert.equal((await admin.getUserById(data.user.id)).data.user.email, address)
      const list = await admin.listUsers({ page: 1, perPage: 2 })
      assert.equal(list.data.users.length, 2)
      assert.ok(list.data.total >= 2 && list.data.nextPage === 2)
      assert.equal((await admin.updateUserById(data.user.id, { user_metadata: { a: 1 } })).data.user.user_metadata.a, 1)
      assert.equal((await client().auth.signInWithPassword({ email: address, password })).error, null)
      assert.equal((await admin.deleteUser(data.user.id)).error, null)
      assert.equal((await admin.getUserById(data.user.id)).error.code, 'user_not_found')
    }
    assert.equal((await client().auth.admin.listUsers()).error.code, 'not_admin')
  },
  async 'what is not here says so'() {
    assert.equal((await client().auth.signInWithOtp({ email: email() })).error.code, 'otp_disabled')
    assert.equal((await client().auth.resetPasswordForEmail(email())).error.code, 'email_provider_disabled')
  },
})
