// The official TypeScript SDK over the wire: `node typescript.mjs SIZES ADDRESS WHAT MODULES`.
//
// MODULES is the directory of node_modules in which the SDK and ws are.  driver.py has the same work for Python.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { median, tell, timed } from "../stopwatch.mjs";

const [sizes, address] = process.argv.slice(2, 4).map((text) => JSON.parse(text));
const [what, modules] = process.argv.slice(4);
const load = (...path) => import(pathToFileURL(join(modules, ...path)));
const versionOf = (name) => JSON.parse(readFileSync(join(modules, name, "package.json"), "utf8")).version;

const { client, methods, PROTOCOL_VERSION } = await load("@agentclientprotocol/sdk", "dist/v1/stable/acp.js");
const { createWebSocketStream } = await load("@agentclientprotocol/sdk", "dist/transports/ws-stream.js");
const { WebSocket } = await load("ws", "wrapper.mjs");
const authority = address.authority ? readFileSync(address.authority) : undefined;

// With TLS its library has to be told whom to trust; the SDK hands it headers only.
class Trusting extends WebSocket {
  constructor(url, protocols, options = {}) {
    super(url, protocols, authority ? { ...options, ca: authority } : options);
  }
}

const connect = async (url) => {
  const connection = { seen: new Map(), stalled: false };
  const opened = client({ name: "bench" })
    .onNotification(methods.client.session.update, ({ params: { sessionId } }) => {
      connection.seen.set(sessionId, (connection.seen.get(sessionId) ?? 0) + 1);
      if (connection.stalled) return new Promise(() => {});
    })
    .connect(createWebSocketStream(url, { WebSocket: Trusting }));
  connection.request = (method, params) => opened.agent.request(method, params);
  await connection.request(methods.agent.initialize, { protocolVersion: PROTOCOL_VERSION, clientCapabilities: {} });
  return connection;
};

const newSession = async (connection) => {
  const { sessionId } = await connection.request(methods.agent.session.new, { cwd: "/", mcpServers: [] });
  return { connection, sessionId };
};

const turn = async ({ connection, sessionId }, text) => {
  connection.seen.set(sessionId, 0);
  await connection.request(methods.agent.session.prompt, { sessionId, prompt: [{ type: "text", text }] });
  return connection.seen.get(sessionId);
};

const turns = async (session, times, count, size = 64) => {
  const took = [];
  for (let n = 0; n < times; n += 1) {
    const begun = performance.now();
    const seen = await turn(session, `${count} ${size}`);
    took.push(performance.now() - begun);
    if (seen !== count) throw new Error(`${seen} updates of ${count}`);
  }
  return took;
};

const found = {};
const atLeast1 = (value) => Math.max(1, Math.floor(value));
const several = (count, make) => Array.from({ length: count }, make);

const alone = async (session, prefix) => {
  await turns(session, atLeast1(sizes.wire_turns / 2), 10); // V8 compiles what runs often
  let each = [];
  const took = await timed(async () => {
    each = await turns(session, sizes.wire_turns, 10);
  });
  found[`${prefix}_turns`] = sizes.wire_turns / took.wall;
  found[`${prefix}_turn_cpu`] = (took.cpu / sizes.wire_turns) * 1e6;
  found[`${prefix}_p50`] = median(each) * 1e3;
  for (const [name, size] of [["64", 64], ["1k", 1024]]) {
    const long = await timed(() => turns(session, 1, sizes.updates, size), Math.min(3, sizes.batches));
    found[`${prefix}_updates_${name}`] = sizes.updates / long.wall;
    found[`${prefix}_update_cpu_${name}`] = (long.cpu / sizes.updates) * 1e6;
  }
};

const crowd = async (sessions, name) => {
  const together = (times) => Promise.all(sessions.map((session) => turns(session, times, 10)));
  await together(1);
  const took = await timed(() => together(sizes.crowd_turns));
  const count = sessions.length * sizes.crowd_turns;
  found[`crowd_${name}`] = count / took.wall;
  found[`crowd_${name}_cpu`] = (took.cpu / count) * 1e6;
};

const everything = async () => {
  const connection = await connect(address.plain);
  const session = await newSession(connection);
  await alone(session, "wire");
  if (address.secure) await alone(await newSession(await connect(address.secure)), "tls");
  const sessions = [session];
  while (sessions.length < sizes.crowd_wire) sessions.push(await newSession(connection));
  await crowd(sessions, "one");
  const apart = await Promise.all(several(sizes.crowd_wire, async () => newSession(await connect(address.plain))));
  await crowd(apart, "each");
  for (const count of sizes.growth) {
    while (sessions.length < count) sessions.push(await newSession(connection));
    const each = atLeast1(sizes.growth_turns / count);
    const took = await timed(() => Promise.all(sessions.slice(0, count).map((one) => turns(one, each, 100))));
    found[`wire_grow_${count}`] = (took.cpu / (count * each * 100)) * 1e6;
  }
};

const stall = async () => {
  const session = await newSession(await connect(address.plain));
  await turns(session, 3, 100, 1024);
  const resident = () => process.memoryUsage.rss() / 2 ** 20;
  const before = resident();
  let peak = before;
  const watching = setInterval(() => {
    peak = Math.max(peak, resident());
  }, 50);
  session.connection.stalled = true;
  turn(session, `${sizes.flood} 1024`).catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, sizes.stall * 1e3));
  clearInterval(watching);
  found.stall = peak - before;
};

await (what === "stall" ? stall() : everything());
const sdk = `@agentclientprotocol/sdk ${versionOf("@agentclientprotocol/sdk")}`;
tell(`${sdk}, ws ${versionOf("ws")}, Node ${process.versions.node}`, found);
