"""How the page looks, in light and dark, on a screen and on paper. No font, script or image is fetched."""

from __future__ import annotations

#: one an experiment: Okabe and Ito's, which colour-blind people tell apart too, without their yellow (invisible on white)
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#777777")

_SHARED = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0; }
header, main { max-width: 1340px; margin: auto; padding: 0 20px; }
h1 { font-size: 1.5em; overflow-wrap: anywhere; } h2 { border-bottom: 1px solid var(--line); margin-top: 1.8em; }
nav a { margin-right: 1.2em; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(380px, 1fr)); gap: 14px; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; font: 11px system-ui, sans-serif; } svg .title { font-size: 13px; font-weight: 600; }
svg .grid { stroke: var(--line); } polyline { fill: none; stroke: currentColor; stroke-width: 1.5; } circle { fill: currentColor; }
svg g:hover polyline { stroke-width: 3.5; }
.legend { position: sticky; top: 0; background: Canvas; padding: 8px 0; z-index: 1; }
.legend label { margin-right: 1.5em; white-space: nowrap; } .legend b { display: inline-block; width: 1.6em; height: 4px;
  margin: 0 6px 4px 2px; background: currentColor; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
img { max-width: 100%; } figure { margin: 12px 0; } figcaption { font-weight: 600; margin-bottom: 4px; }
summary { cursor: pointer; margin: 6px 0; } pre { overflow-x: auto; border: 1px solid var(--line); padding: 10px; }
small, .note { opacity: 0.75; }
@media print { nav, input { display: none; } .legend { position: static; } }
"""


def _of_color(place: int, color: str) -> str:
    """The colour of an experiment's lines, and that its box in the legend hides them."""
    return f".c{place} {{ color: {color}; }}\nbody:has(#show{place}:not(:checked)) svg .c{place} {{ display: none; }}"


STYLE = _SHARED + "\n".join(_of_color(place, color) for place, color in enumerate(COLORS)) + "\n"
