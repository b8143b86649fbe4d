"""The style sheet of a timeline's page."""

from __future__ import annotations

from typing import Final

# Colours that differ in brightness too, so that they can be told apart without seeing colours.
STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#59636e;--paper:#fff;--line:#d1d9e0;--grid:#e8ecf0;
--queued:#c9d1d9;--preparing:#e3b341;--running:#4c8ed9;--cleaning:#b5548f;--after:#e1e6eb;
--good:#1a7f37;--bad:#c2281d;--late:#a04a00;--stop:#4a5b8c;--hatch:#fff;--event:#0a2f5c}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9da7b1;--paper:#0f1318;--line:#3d444d;--grid:#22282f;
--queued:#565f69;--preparing:#b98b1c;--running:#3a76bb;--cleaning:#a34a82;--after:#333b44;
--good:#4ac26b;--bad:#ff8a80;--late:#f0a35e;--stop:#a5b4e0;--hatch:#0f1318;--event:#d6e8ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{padding:1rem;max-width:80rem;margin:auto}
h1{font-size:1.35rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:1.4rem 0 .5rem}
h3{font-size:.95rem;margin:1rem 0 .2rem;overflow-wrap:anywhere}
p{margin:.3rem 0;color:var(--dim)}
.note{color:var(--late)}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:.8rem 0 0;list-style:none;font-size:.82rem;
color:var(--dim)}
.legend svg{margin-right:.4rem;vertical-align:-1px}
.legend b{color:var(--ink)}
.defs{position:absolute}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;padding:.2rem 0 .5rem}
.scroll svg{display:block;box-sizing:content-box}
.lane{position:sticky;left:0;width:fit-content;max-width:min(20rem,90vw);padding:0 12px;margin:.4rem 0 0;
overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.chart{border-bottom:1px solid var(--grid)}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}
.axis text,text.bound{fill:var(--dim);font-size:11px}
.axis text{text-anchor:middle}
.axis .cut text{text-anchor:start}
.grid{stroke:var(--grid);fill:none}
.cut{stroke:var(--line);stroke-dasharray:2 3;fill:none}
.axis .cut{stroke:var(--dim);stroke-dasharray:none}
.axis .cut text{stroke:none}
.bar{stroke:var(--paper);stroke-width:.5}
.queued{fill:var(--queued)}
.preparing{fill:var(--preparing)}
.running{fill:var(--running)}
.cleaning{fill:var(--cleaning)}
.after{fill:var(--after)}
.hatch{fill:var(--hatch)}
.shield{opacity:.65;stroke:none}
.line{fill:none;stroke:var(--ink);stroke-width:1.5}
.line.event{stroke:var(--event);stroke-width:1.5;opacity:.8}
.line.other{stroke:var(--late);stroke-width:2}
.line.agent{stroke:var(--running);stroke-width:3;opacity:.55}
.line.bound{stroke:var(--late);stroke-width:1;stroke-dasharray:4 3}
.line.to-answer{stroke-dasharray:1 3}
.line.to-stop{stroke-dasharray:1 3}
circle{stroke:var(--ink);stroke-width:1.5;fill:var(--ink)}
circle.to-stop{fill:var(--paper)}
.tip{fill:var(--ink)}
.Completed{color:var(--good);fill:var(--good)}
.Failed{color:var(--bad);fill:var(--bad)}
.TimedOut{color:var(--late);fill:var(--late)}
.Stopped{color:var(--stop);fill:var(--stop)}
svg text.Completed{fill:var(--good)}
svg text.Failed{fill:var(--bad)}
svg text.TimedOut{fill:var(--late)}
svg text.Stopped{fill:var(--stop)}
ol{margin:.2rem 0;padding-left:2.2rem}
li{margin:.25rem 0;overflow-wrap:anywhere}
small{color:var(--dim)}
"""
