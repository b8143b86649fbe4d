"""The agents whose command lines are built in."""

from __future__ import annotations

from typing import Final

from ._spec import AgentSpec

# Command lines as the agents' own documents, the ACP registry and other clients give them in autumn 2026.  Gemini's
# and Qwen's older flag, --experimental-acp, is deprecated by both; iFlow has only that one.  The Claude and Codex
# adapters were called claude-code-acp and @zed-industries/codex-acp before they moved to @agentclientprotocol.
_TABLE: Final = (
    # Name, argv, how a person gets it where that is one well-known line.
    ("claude", ("claude-agent-acp",), "npm install -g @agentclientprotocol/claude-agent-acp"),
    ("codex", ("codex-acp",), "npm install -g @agentclientprotocol/codex-acp"),
    ("copilot", ("copilot", "--acp", "--stdio"), "npm install -g @github/copilot"),
    ("cursor", ("cursor-agent", "acp"), None),
    ("devin", ("devin", "acp"), None),
    ("droid", ("droid", "exec", "--output-format", "acp"), None),
    ("fast-agent", ("uvx", "fast-agent-mcp", "acp"), None),
    ("gemini", ("gemini", "--acp"), "npm install -g @google/gemini-cli"),
    ("goose", ("goose", "acp"), None),
    ("grok", ("grok", "agent", "stdio"), None),
    ("iflow", ("iflow", "--experimental-acp"), None),
    ("junie", ("junie", "--acp=true"), "npm install -g @jetbrains/junie-cli"),
    ("kilo", ("kilo", "acp"), "npm install -g @kilocode/cli"),
    ("kimi", ("kimi", "acp"), None),
    ("kiro", ("kiro-cli-chat", "acp"), None),
    ("opencode", ("opencode", "acp"), "npm install -g opencode-ai"),
    ("pi", ("pi-acp",), "npm install -g pi-acp"),
    ("qoder", ("qodercli", "--acp"), "npm install -g @qoder-ai/qodercli"),
    ("qwen", ("qwen", "--acp"), "npm install -g @qwen-code/qwen-code"),
    ("trae", ("traecli", "acp", "serve"), None),
    ("vibe", ("vibe-acp",), None),
)
KNOWN: Final = {name: AgentSpec(name=name, origin="built-in", argv=argv, hint=hint) for name, argv, hint in _TABLE}
