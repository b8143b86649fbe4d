// An agent on the official TypeScript SDK and its WebSocket server; prints "port N".
//
// The prompt is one word, the name of an entry of `actions` below.

import { createServer } from "node:http";
import { agent, methods, PROTOCOL_VERSION, RequestError } from "@agentclientprotocol/sdk";
import { createNodeHttpHandler, createNodeWebSocketUpgradeHandler } from "@agentclientprotocol/sdk/experimental/node";
import { AcpServer } from "@agentclientprotocol/sdk/experimental/server";
import { WebSocketServer } from "ws";

const OPTIONS = [
  { optionId: "yes", name: "Yes", kind: "allow_once" },
  { optionId: "always", name: "Always", kind: "allow_always" },
  { optionId: "no", name: "No", kind: "reject_once" },
];

// What was prompted in each session; it outlives connections.
const memory = new Map();

// One for each connection; `cut` ends that connection in the way it is told.
function scriptedAgent(cut) {
  const cancels = new Map();
  const never = new Promise(() => {});

  const actions = {
    async hello({ say }) {
      for (const text of ["Hel", "lo ", "there"]) await say(text);
    },
    async tool({ say, update }) {
      const toolCallId = "call-1";
      await update({ sessionUpdate: "tool_call", toolCallId, title: "Read notes", kind: "read", status: "pending" });
      await update({ sessionUpdate: "tool_call_update", toolCallId, status: "in_progress" });
      const content = [{ type: "content", content: { type: "text", text: "three lines" } }];
      await update({ sessionUpdate: "tool_call_update", toolCallId, status: "completed", content });
      await say("done");
    },
    async permission({ say, ask, cancelled }) {
      const toolCall = { toolCallId: "call-2", title: "Write notes", kind: "edit", status: "pending" };
      const { outcome } = await ask({ toolCall, options: OPTIONS });
      await say(`answered ${outcome.outcome === "selected" ? outcome.optionId : "cancelled"}`);
      return cancelled.aborted ? "cancelled" : "end_turn";
    },
    async wait({ say, cancelled }) {
      await say("waiting");
      if (!cancelled.aborted) await new Promise((resolve) => cancelled.addEventListener("abort", resolve));
      await say(", stopped");
      return "cancelled";
    },
    async fail({ say }) {
      await say("trying");
      throw new RequestError(-32603, "failed as asked", { reason: "asked" });
    },
    async recall({ say, history }) {
      await say(history.join(" "));
    },
    async close({ say }) {
      await say("going");
      cut("close");
      await never;
    },
    async reset({ say }) {
      await say("going");
      cut("reset");
      await never;
    },
  };

  return agent({ name: "interop-agent" })
    .onRequest(methods.agent.initialize, () => ({
      protocolVersion: PROTOCOL_VERSION,
      agentCapabilities: { sessionCapabilities: { resume: {}, close: {} } },
    }))
    .onRequest(methods.agent.session.new, () => {
      const sessionId = `typescript-${memory.size + 1}`;
      memory.set(sessionId, []);
      return { sessionId };
    })
    .onRequest(methods.agent.session.resume, ({ params: { sessionId } }) => {
      if (!memory.has(sessionId)) throw RequestError.sessionNotFound(sessionId);
      return {};
    })
    .onRequest(methods.agent.session.close, ({ params: { sessionId } }) => {
      cancels.get(sessionId)?.abort();
      return {};
    })
    .onNotification(methods.agent.session.cancel, ({ params: { sessionId } }) => cancels.get(sessionId)?.abort())
    .onRequest(methods.agent.session.prompt, async ({ params: { sessionId, prompt }, client }) => {
      const history = memory.get(sessionId);
      if (!history) throw RequestError.sessionNotFound(sessionId);
      const word = prompt[0].text;
      if (!Object.hasOwn(actions, word)) throw RequestError.invalidParams({ prompt: word });
      const cancel = new AbortController();
      cancels.set(sessionId, cancel);
      const update = (change) => client.notify(methods.client.session.update, { sessionId, update: change });
      const turn = {
        history,
        update,
        cancelled: cancel.signal,
        say: (text) => update({ sessionUpdate: "agent_message_chunk", content: { type: "text", text } }),
        ask: (request) => client.request(methods.client.session.requestPermission, { sessionId, ...request }),
      };
      history.push(word);
      return { stopReason: (await actions[word](turn)) ?? "end_turn" };
    });
}

const acp = new AcpServer({ createAgent: () => scriptedAgent(() => {}) });
const sockets = new WebSocketServer({ noServer: true });
const http = createServer(createNodeHttpHandler(acp));

http.on("upgrade", (request, socket, head) => {
  // The adapter makes one agent for all; this gives each connection an agent that can cut it.
  let webSocket;
  const cut = (how) => (how === "close" ? webSocket.close(1011, "as asked") : socket.resetAndDestroy());
  const server = {
    prepareWebSocketUpgrade() {
      const upgrade = acp.prepareWebSocketUpgrade({ createAgent: () => scriptedAgent(cut) });
      const accept = (accepted) => upgrade.accept((webSocket = accepted));
      return { connectionId: upgrade.connectionId, accept, reject: upgrade.reject };
    },
  };
  createNodeWebSocketUpgradeHandler(server, sockets)(request, socket, head);
});
http.listen(0, "127.0.0.1", () => console.log(`port ${http.address().port}`));
process.on("SIGTERM", () => process.exit(0));
