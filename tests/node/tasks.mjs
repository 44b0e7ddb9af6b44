// The TypeScript client of MCP Tasks (ext-tasks) over stdio and HTTP: a task with its result, one that asks
// its user, and one that is cancelled. What the server sends has to fit the package's own schemas.
//
//     OLLAMA_HOST=http://127.0.0.1:PORT node tasks.mjs /path/to/ollama-mcp

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { createTaskSessionFromClient, resultFromTaskOutcome } from "@modelcontextprotocol/ext-tasks/client";
import { CreateTaskResultV2Schema, GetTaskResultV2Schema } from "@modelcontextprotocol/ext-tasks/core/v2";

const PROTOCOL = "2026-07-28";
const INFO = { name: "node", version: "1" };
const CAPABILITIES = { elicitation: { form: {} }, extensions: { "io.modelcontextprotocol/tasks": {} } };
const env = {
  OLLAMA_HOST: process.env.OLLAMA_HOST,
  OLLAMA_MCP_TOOLSETS: "all",
  OLLAMA_MCP_SOFT_DEADLINE: "0.2",
};
let lastId = 0;

// The SDK's own request() refuses results of the extension, so that ext-tasks wants a way around it.
function overStdio(transport) {
  const waiting = new Map();
  const others = transport.onmessage;
  transport.onmessage = (message, extra) => {
    const resolve = waiting.get(message.id);
    if (!resolve) return others(message, extra);
    waiting.delete(message.id);
    resolve(message);
  };
  return (request) =>
    new Promise((resolve) => {
      const id = `raw-${++lastId}`;
      waiting.set(id, resolve);
      transport.send({ ...request, jsonrpc: "2.0", id });
    });
}

function overHttp(url) {
  return async (request) => {
    const answer = await fetch(url, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": PROTOCOL,
        "mcp-method": request.method,
        "mcp-name": request.params.taskId ?? request.params.name,
      },
      body: JSON.stringify({ ...request, jsonrpc: "2.0", id: `raw-${++lastId}` }),
    });
    const text = await answer.text();
    if (!answer.headers.get("content-type").includes("event-stream")) return JSON.parse(text);
    const events = text.split("\n").filter((line) => line.startsWith("data: "));
    return events.map((line) => JSON.parse(line.slice(6))).find((message) => message.result || message.error);
  };
}

async function use(transport, dispatcher) {
  const client = new Client(INFO, { capabilities: CAPABILITIES, versionNegotiation: { mode: "auto" } });
  await client.connect(transport);
  const dispatch = dispatcher();
  const statuses = [];
  const questions = [];
  const session = createTaskSessionFromClient(client, {
    endpointId: "test",
    v2RequestFraming: { protocolVersion: PROTOCOL, clientInfo: INFO, clientCapabilities: CAPABILITIES },
    rawDispatch: async (request) => {
      const message = await dispatch(request);
      assert(!message.error, JSON.stringify(message.error));
      if (request.method === "tasks/get") statuses.push(GetTaskResultV2Schema.parse(message.result).status);
      if (message.result.resultType === "task") CreateTaskResultV2Schema.parse(message.result);
      return message;
    },
    onInputRequest: async (request) => {
      questions.push(request.params.message);
      return { action: "accept", content: { confirm: true } };
    },
  });

  const chat = await session.callTool("ollama_chat", { prompt: "x" });
  assert.equal(chat.kind, "task");
  const { outcome } = await chat.settle();
  assert.match(resultFromTaskOutcome(outcome).content[0].text, /^(word\d+ )+$/);
  assert(statuses.includes("working"), `${statuses}`);
  assert.equal(statuses.at(-1), "completed");

  const copy = await session.callTool("ollama_copy_model", { source: MODEL, destination: "nomic-embed-text" });
  assert.equal(copy.kind, "task");
  const copied = resultFromTaskOutcome((await copy.settle()).outcome);
  assert(!copied.isError, JSON.stringify(copied));
  assert.equal(questions.length, 1, `${questions}`);

  const long = await session.callTool("ollama_chat", { prompt: "x" });
  await long.cancel();
  assert.equal((await long.settle()).outcome.status, "cancelled");
  await session.close();
  await client.close();
}

const MODEL = "llama3.2:3b";
const command = process.argv[2];
const stdio = new StdioClientTransport({ command, env });
await use(stdio, () => overStdio(stdio));

const server = spawn(command, ["serve", "--http", "127.0.0.1:0"], { env, stdio: ["ignore", "ignore", "pipe"] });
try {
  for await (const line of createInterface(server.stderr)) {
    const url = line.match(/http:\/\/\S+/)?.[0];
    if (!url) continue;
    await use(new StreamableHTTPClientTransport(new URL(url)), () => overHttp(url));
    break;
  }
} finally {
  server.kill();
}
console.log("tasks over stdio and HTTP: create, poll, input, result, cancel");
process.exit(0);
