#!/usr/bin/env node
// A web server that says which environment it was given, and starts a child of its own.
import { spawn } from 'node:child_process'
import http from 'node:http'

const child = spawn('sleep', ['1000'])
http
  .createServer((request, response) => {
    if (request.url === '/crash') process.exit(3)
    response.end(JSON.stringify({ env: process.env, args: process.argv.slice(2), child: child.pid, pid: process.pid }))
  })
  .listen(Number(process.env.RTX_PORT), '127.0.0.1', () => console.log('listening'))
