// OpenClaw's session manager in memory: `node openclaw.mjs SIZES PACKAGE`, PACKAGE being where openclaw is installed.
//
// Its class lies in a chunk whose name has a hash.  Where it is not exported, it is that of the manager which is.
// The sizes are those of memory/ours.py, and so is the work: a runtime that costs next to nothing, metadata in a Map.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { median, tell, timed } from "../stopwatch.mjs";

const sizes = JSON.parse(process.argv[2]);
const directory = process.argv[3];
const { version } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));

const findManager = async () => {
  const dist = join(directory, "dist");
  const chunk = readdirSync(dist).find(
    (name) => /\.m?js$/.test(name) && readFileSync(join(dist, name), "utf8").includes("AcpSessionManager = class"),
  );
  if (!chunk) throw new Error(`there is no chunk with AcpSessionManager in ${dist}`);
  const source = readFileSync(join(dist, chunk), "utf8");
  const exported = Object.fromEntries(
    [...source.matchAll(/\b(AcpSessionManager|getAcpSessionManager) as (\w+)/g)].map(([, name, as]) => [name, as]),
  );
  const module = await import(pathToFileURL(join(dist, chunk)));
  return module[exported.AcpSessionManager] ?? module[exported.getAcpSessionManager]().constructor;
};

const text = "x".repeat(64);
const never = () => new Promise(() => {});

class Prepared {
  event = { type: "text_delta", text, stream: "output" };

  async ensureSession({ sessionKey }) {
    return { backend: "bench", runtimeSessionName: sessionKey, sessionKey };
  }

  async *runTurn({ text }) {
    for (let left = Number(text); left > 0; left -= 1) yield this.event;
    yield { type: "done", status: "completed" };
  }

  async cancel() {}
  async close() {}
}

class Waiting extends Prepared {
  running = Promise.withResolvers();
  #stopped = Promise.withResolvers();

  async *runTurn() {
    this.#stopped = Promise.withResolvers();
    this.running.resolve();
    await this.#stopped.promise;
    this.running = Promise.withResolvers();
    yield { type: "done", status: "cancelled", stopReason: "cancelled" };
  }

  async cancel() {
    this.#stopped.resolve();
  }
}

class Hanging extends Prepared {
  async *runTurn() {
    await never();
  }

  cancel = never;
  close = never;
}

const Manager = await findManager();
const cfg = { acp: { enabled: true, backend: "bench", runtime: { ttlMinutes: 0 } }, agents: {} };
const agentId = "main";
let requests = 0;

// A manager on a runtime; the entries are those of a store in memory.
const open = (runtime) => {
  const entries = new Map();
  const read = ({ sessionKey }) => entries.get(sessionKey) ?? null;
  const backend = () => ({ id: "bench", runtime });
  const manager = new Manager({
    listAcpSessions: async () => [...entries.values()],
    readSessionEntry: read,
    loadSessionEntry: read,
    upsertSessionMeta: async ({ sessionKey, mutate }) => {
      const entry = entries.get(sessionKey);
      const acp = mutate(entry?.acp, entry);
      if (acp === null) return entries.delete(sessionKey) ? null : null;
      if (acp !== undefined && acp !== entry?.acp) entries.set(sessionKey, { ...entry, sessionKey, storeSessionKey: sessionKey, acp });
      return entries.get(sessionKey);
    },
    getRuntimeBackend: backend,
    requireRuntimeBackend: backend,
  });
  return manager;
};

const start = async (manager, name, mode = "persistent") => {
  const sessionKey = `agent:main:acp:${name}`;
  await manager.initializeSession({ cfg, sessionKey, agentId, agent: "main", mode, cwd: "/" });
  return sessionKey;
};

const turn = (manager, sessionKey, text, onEvent) => {
  const requestId = `request-${(requests += 1)}`;
  return manager.runTurn({
    cfg,
    sessionKey,
    agentId,
    text,
    mode: "prompt",
    requestId,
    provenance: "system",
    admittedRunContext: { operationalRunInstance: { runId: requestId, instanceId: requestId } },
    onEvent,
  });
};

const turns = async (manager, sessionKey, count, events) => {
  for (let n = 0; n < count; n += 1) {
    let seen = 0;
    await turn(manager, sessionKey, String(events), (event) => {
      if (event.type === "text_delta") seen += 1;
    });
    if (seen !== events) throw new Error(`${seen} events of ${events}`);
  }
};

const crowd = (manager, sessions, count, events) =>
  Promise.all(sessions.map((session) => turns(manager, session, count, events)));

const found = {};
const atLeast1 = (value) => Math.max(1, Math.floor(value));

{
  const manager = open(new Prepared());
  const session = await start(manager, "0");
  await turns(manager, session, atLeast1(sizes.turns * 5), 10); // V8 compiles what runs often
  for (const events of [1, 10, 100]) {
    const count = atLeast1(sizes.turns / (events === 100 ? 4 : 1));
    const took = await timed(() => turns(manager, session, count, events), sizes.batches);
    found[`turn_${events}`] = (took.thread / count) * 1e6;
    found[`turn_${events}_wall`] = (took.wall / count) * 1e6;
  }
  await turns(manager, session, 1, sizes.events);
  const took = await timed(() => turns(manager, session, 1, sizes.events), sizes.batches);
  found.event = (took.thread / sizes.events) * 1e9;
  found.event_wall = (took.wall / sizes.events) * 1e9;
  const sessions = [];
  for (const count of [...new Set([...sizes.growth, sizes.crowd])].sort((a, b) => a - b)) {
    while (sessions.length < count) sessions.push(await start(manager, String(sessions.length)));
    const each = atLeast1(sizes.growth_turns / count);
    if (sizes.growth.includes(count)) {
      const grown = await timed(() => crowd(manager, sessions, each, 100), Math.min(3, sizes.batches));
      found[`grow_${count}`] = (grown.thread / (count * each * 100)) * 1e9;
    }
    if (count === sizes.crowd) {
      const together = await timed(() => crowd(manager, sessions, 1, 10), sizes.batches);
      found.crowd = (together.thread / count) * 1e6;
      found.crowd_wall = (together.wall / count) * 1e6;
    }
  }
}

{
  const runtime = new Waiting();
  const manager = open(runtime);
  const sessionKey = await start(manager, "0");
  const [returned, settled] = [[], []];
  for (let n = 0; n < sizes.cancels; n += 1) {
    let begun = 0;
    const running = turn(manager, sessionKey, "x").then(() => settled.push(performance.now() - begun));
    await runtime.running.promise;
    begun = performance.now();
    await manager.cancelSession({ cfg, sessionKey, agentId, reason: "the benchmark" });
    returned.push(performance.now() - begun);
    await running;
  }
  found.cancel = median(returned) * 1e3;
  found.cancel_settled = median(settled) * 1e3;
}

{
  const manager = open(new Prepared());
  await turns(manager, await start(manager, "0"), 3, 1);
  globalThis.gc();
  const before = process.memoryUsage().heapUsed;
  for (let n = 0; n < sizes.idle; n += 1) await turns(manager, await start(manager, `idle-${n}`), 1, 1);
  globalThis.gc();
  found.idle_bytes = (process.memoryUsage().heapUsed - before) / sizes.idle;
  if (!manager) throw new Error("it was needed to the last");
}

// It gives no turn less than a second.
if (sizes.patience >= 1) {
  const manager = open(new Hanging());
  cfg.agents = { defaults: { timeoutSeconds: sizes.patience } };
  const giveUp = async (mode) => {
    const sessionKey = await start(manager, mode, mode);
    const begun = performance.now();
    await turn(manager, sessionKey, "x").catch(() => {
      found[`patience_${mode}`] = (performance.now() - begun) / 1e3;
    });
  };
  const alive = setInterval(() => {}, 1e3); // its own timers do not keep Node from ending
  await Promise.all([giveUp("persistent"), giveUp("oneshot")]);
  clearInterval(alive);
}

tell(`openclaw ${version}, Node ${process.versions.node}`, found);
