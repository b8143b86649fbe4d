// The official TypeScript SDK's WebSocket client against the server whose address it is given.
//
// Prints one JSON object for each step, saying what a user of the SDK would have seen.

import { client, methods, PROTOCOL_VERSION } from "@agentclientprotocol/sdk";
import { createWebSocketStream } from "@agentclientprotocol/sdk/experimental/ws-client";
import { WebSocket } from "ws";

const [url, cwd] = process.argv.slice(2);
const report = (step, seen) => console.log(JSON.stringify({ step, ...seen }));

// Connects, initializes, runs `steps` and disconnects.
async function connected(steps) {
  const updates = [];
  let answer = { outcome: "cancelled" };
  let onUpdate = () => {};
  const connection = client({ name: "interop-client" })
    .onNotification(methods.client.session.update, ({ params: { update } }) => {
      updates.push(update);
      onUpdate(update);
    })
    .onRequest(methods.client.session.requestPermission, () => ({ outcome: answer }))
    .connect(createWebSocketStream(url, { WebSocket }));
  const request = (method, params) => connection.agent.request(method, params);

  const text = () => updates.map((update) => update.content?.text ?? "").join("");
  const prompt = async (sessionId, word) => {
    updates.length = 0;
    const { stopReason } = await request(methods.agent.session.prompt, {
      sessionId,
      prompt: [{ type: "text", text: word }],
    });
    return { stopReason, text: text() };
  };

  try {
    await request(methods.agent.initialize, { protocolVersion: PROTOCOL_VERSION, clientCapabilities: {} });
    return await steps({
      connection,
      request,
      prompt,
      updates,
      answerPermissions: (outcome) => (answer = outcome),
      whenUpdated: (callback) => (onUpdate = callback),
    });
  } finally {
    connection.close();
    await connection.closed;
  }
}

const sessionId = await connected(async (peer) => {
  const { sessionId } = await peer.request(methods.agent.session.new, { cwd, mcpServers: [] });

  report("turn", await peer.prompt(sessionId, "hello"));

  const { stopReason } = await peer.prompt(sessionId, "tool");
  report("tool", { stopReason, statuses: peer.updates.map((update) => update.status).filter(Boolean) });

  for (const optionId of ["yes", "no"]) {
    peer.answerPermissions({ outcome: "selected", optionId });
    report("permission", await peer.prompt(sessionId, "permission"));
  }

  peer.whenUpdated(() => {
    peer.whenUpdated(() => {});
    peer.connection.agent.notify(methods.agent.session.cancel, { sessionId });
  });
  report("cancel", await peer.prompt(sessionId, "wait"));

  const failure = await peer.prompt(sessionId, "fail").catch((error) => error);
  report("error", { code: failure.code, message: failure.message, data: failure.data });

  return sessionId;
});

await connected(async (peer) => {
  await peer.request(methods.agent.session.load, { sessionId, cwd, mcpServers: [] });
  report("load", { replayed: peer.updates.map((update) => update.sessionUpdate) });
  report("recall", await peer.prompt(sessionId, "recall"));

  const failed = await peer.prompt(sessionId, "reset").then(
    () => false,
    () => true,
  );
  await peer.connection.closed;
  report("disconnect", { failed });
});

await connected(async (peer) => {
  await peer.request(methods.agent.session.load, { sessionId, cwd, mcpServers: [] });
  report("after", await peer.prompt(sessionId, "hello"));
});
