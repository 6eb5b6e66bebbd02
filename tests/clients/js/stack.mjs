// The walk of everything.mjs in Node.
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'
import { everything } from './everything.mjs'

await everything(createClient, {
  url: process.env.SUPABASE_URL,
  key: process.env.PUBLISHABLE_KEY,
  options: { realtime: { transport: ws } },
})
process.exit(0)
