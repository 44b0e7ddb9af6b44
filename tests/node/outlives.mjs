// A TypeScript client and an answer that outlives its call: STILL RUNNING, then ollama_continue until
// it is whole, which must be what comes without a deadline.
//
//     OLLAMA_HOST=http://127.0.0.1:PORT node outlives.mjs /path/to/ollama-mcp

import assert from "node:assert/strict";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const WAIT_S = 2;
const ASK = {
  prompt: "Write a long story about a dragon and a knight, with many chapters.",
  options: { num_predict: 400, temperature: 0, seed: 1 },
};

const client = new Client({ name: "node", version: "1" });
client.onerror = (error) => {
  throw error; // a report that comes after its call's answer is one
};
await client.connect(
  new StdioClientTransport({ command: process.argv[2], env: { OLLAMA_HOST: process.env.OLLAMA_HOST } }),
);

let reports = 0;

async function call(name, args) {
  const begun = Date.now();
  const options = { onprogress: () => (reports += 1), timeout: 60_000 };
  const result = await client.callTool({ name, arguments: args }, undefined, options);
  assert(!result.isError, JSON.stringify(result));
  return { text: result.content[0].text, meta: result._meta ?? {}, tookS: (Date.now() - begun) / 1000 };
}

const whole = await call("ollama_chat", { ...ASK, wait_s: 0 });
assert(!whole.text.startsWith("STILL RUNNING"));

let last = await call("ollama_chat", { ...ASK, wait_s: WAIT_S });
assert(last.text.startsWith("STILL RUNNING: this is not the answer yet."), last.text);
assert(last.tookS < WAIT_S + 1, `it returned after ${last.tookS} s`);
const handle = /handle="(\w+)"/.exec(last.text)[1];

let continues = 0;
while (last.text.startsWith("STILL RUNNING")) {
  console.log(last.text.split("\n")[1]);
  last = await call("ollama_continue", { handle, wait_s: WAIT_S });
  continues += 1;
}
assert.equal(last.text, whole.text);
const stats = last.meta["ollama-mcp/stats"];
assert.equal(stats.output_tokens, ASK.options.num_predict);
assert(continues > 0 && reports > 0);
await client.close();

console.log(
  `${stats.output_tokens} tokens: without a deadline in ${whole.tookS} s; with one of ${WAIT_S} s the same ` +
    `${last.text.length} characters by ${continues} calls of ollama_continue, with ${reports} reports`,
);
