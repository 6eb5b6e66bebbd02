// Another worker on a queue that rowcall reads too: pgmq-js over PostgreSQL, or supabase-js over `pgmq_public`.
//
//   node client.mjs pgmq-js|supabase-js QUEUE SEND TAKE
//
// Sends SEND messages, handles TAKE of whatever is in the queue, and prints the ids of those as JSON.

import { createClient } from '@supabase/supabase-js';
import { Pgmq } from 'pgmq-js';
import ws from 'ws';

const [kind, queue, send, take] = process.argv.slice(2);

async function pgmqJs() {
  const url = new URL(process.env.DATABASE_URL);
  const pgmq = await Pgmq.new(
    {
      host: url.hostname,
      port: Number(url.port),
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      database: url.pathname.slice(1),
      ssl: false,
    },
    { skipExtensionCreation: true },
  );
  return {
    send: (message) => pgmq.msg.send(queue, message),
    read: async () => (await pgmq.msg.read(queue, 60))?.msgId,
    archive: (id) => pgmq.msg.archive(queue, id),
    close: () => pgmq.close(),
  };
}

function supabaseJs() {
  const client = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_KEY, { realtime: { transport: ws } });
  const rpc = async (name, body) => {
    const { data, error } = await client.schema('pgmq_public').rpc(name, { queue_name: queue, ...body });
    if (error) throw new Error(`${name}: ${JSON.stringify(error)}`);
    return data;
  };
  return {
    send: (message) => rpc('send', { message, sleep_seconds: 0 }),
    read: async () => (await rpc('read', { sleep_seconds: 60, n: 1 }))[0]?.msg_id,
    archive: (id) => rpc('archive', { message_id: id }),
    close: () => {},
  };
}

const client = kind === 'pgmq-js' ? await pgmqJs() : supabaseJs();
for (let n = 0; n < Number(send); n += 1) {
  await client.send({ from: kind, n });
}
const handled = [];
while (handled.length < Number(take)) {
  const id = await client.read();
  if (id === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    continue;
  }
  if (!(await client.archive(id))) throw new Error(`message ${id} was not archived`);
  handled.push(Number(id));
}
console.log(JSON.stringify(handled));
await client.close();
process.exit(0);
