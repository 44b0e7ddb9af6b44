// A TypeScript client, 1,000 streamed calls with progress, 32 at a time, and an event loop that is busy in
// between: every call has its whole result, no report comes after it, and the connection holds.
//
//     OLLAMA_HOST=http://127.0.0.1:PORT node streams.mjs /path/to/ollama-mcp [CALLS [BUSY_MS]]
//
// The server leaves 75 ms between the last report and the result. A loop that is blocked for longer
// than that at that moment reads both in one go, and the SDK then handles the result first: no server
// can help that. So the loop here is blocked for up to BUSY_MS, again and again, with as much time to
// breathe, and each report that comes too late must have its reason in a loop that stood still for
// longer than the gap: of BUSY_MS above 75, or of a machine that is busy with something else.

import assert from "node:assert/strict";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const CALLS = Number(process.argv[3] ?? 1000);
const BUSY_MS = Number(process.argv[4] ?? 60);
const GAP_MS = 75;
const IN_FLIGHT = 32;

const client = new Client({ name: "node", version: "1" });
const late = [];
const errors = [];
let closed = 0;
client.onerror = (error) => {
  if (String(error).includes("unknown token")) late.push(stoodStill());
  else errors.push(String(error));
};
client.onclose = () => (closed += 1);
await client.connect(
  new StdioClientTransport({
    command: process.argv[2],
    env: { OLLAMA_HOST: process.env.OLLAMA_HOST, OLLAMA_MCP_PARALLEL: String(IN_FLIGHT) },
  }),
);

let reports = 0;
let reported = 0;
let longest = 0;
let next = 0;

async function calls() {
  while (next < CALLS) {
    const number = next++;
    const seen = [];
    const result = await client.callTool(
      { name: "ollama_chat", arguments: { prompt: `call ${number}` } },
      undefined,
      { onprogress: (report) => seen.push(report.progress), timeout: 60_000 },
    );
    assert(!result.isError, JSON.stringify(result));
    assert.match(result.content[0].text, /^(word\d+ )+$/);
    for (let place = 1; place < seen.length; place += 1) assert(seen[place] > seen[place - 1], `${seen}`);
    reports += seen.length;
    reported += seen.length > 0;
  }
}

function block(ms) {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

// The timer may run before what blocks the loop or after it: how late it is, or how long ago it was.
let ticked = performance.now();
let tick = 0;
const ticking = setInterval(() => {
  tick = performance.now() - ticked;
  ticked += tick;
}, 5);
const stoodStill = () => Math.max(performance.now() - ticked, tick);

let seed = 1; // the same sequence in every run
const random = () => (seed = (seed * 48271) % 0x7fffffff) / 0x7fffffff;

function keepBusy() {
  const begun = performance.now();
  const ms = random() * BUSY_MS;
  block(ms);
  longest = Math.max(longest, performance.now() - begun);
  return setTimeout(() => (busy = keepBusy()), ms);
}

const begun = performance.now();
let busy = keepBusy();
await Promise.all(Array.from({ length: IN_FLIGHT }, calls));
clearTimeout(busy);
clearInterval(ticking);
const tookS = (performance.now() - begun) / 1000;

console.log(
  `${CALLS} calls in ${tookS.toFixed(1)} s, ${reports} reports in ${reported} of them, loop blocked for ` +
    `${longest.toFixed(0)} ms at most: ${late.length} reports after their result` +
    (late.length ? `, where it had stood still for ${Math.min(...late).toFixed(0)} ms or more` : ""),
);
assert.deepEqual(errors, []);
for (const ms of late) assert(ms >= GAP_MS, `a report came late to a loop that stood still for ${ms} ms`);
assert.equal(closed, 0);
assert(reported > CALLS * 0.9);
await client.close();
