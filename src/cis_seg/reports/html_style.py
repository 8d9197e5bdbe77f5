"""The style sheet of the page, for light and dark mode, screen and print. It loads no font, script or image."""

from __future__ import annotations

#: one per experiment: Okabe and Ito's palette, which is safe for colour-blind readers, without its yellow (invisible on white)
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#777777")
#: for dark mode: lighter, because the palette's blue is too dark on black
DARK_COLORS = ("#2E96E8", "#E56A12", "#00B886", "#DB8FB9", "#A5DCFA", "#F0AE1A", "#A6A6A6")

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
.legend label { margin-right: 1.5em; white-space: nowrap; } .legend span { color: CanvasText; }
.legend svg { width: 34px; height: 8px; margin: 0 6px 2px 2px; } .legend line { stroke: currentColor; stroke-width: 3; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 8px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: bottom; }
td { white-space: nowrap; }
#configs td { white-space: normal; overflow-wrap: anywhere; min-width: 9em; vertical-align: top; }
#configs td:first-child { white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: Canvas; }
figure { margin: 12px 0; overflow-x: auto; } figcaption { font-weight: 600; margin-bottom: 4px; }
img { max-width: 100%; cursor: zoom-in; } figure input { position: absolute; opacity: 0; }
figure input:checked + img { max-width: none; cursor: zoom-out; }
summary { cursor: pointer; margin: 6px 0; } pre { overflow-x: auto; border: 1px solid var(--line); padding: 10px; }
small, .note { opacity: 0.75; }
@media print { nav, input { display: none; } .legend { position: static; } }
"""


def style(experiments: int) -> str:
    """Return the style sheet for a number of experiments. Their lines are all different: seven colours, then the same ones dashed."""
    return _SHARED + "\n".join(_experiment_style(index) for index in range(experiments)) + "\n"


def dashes(turn: int) -> str:
    """Return the dash pattern of the ``turn``-th use of a colour: solid, dashed, dash-dot, dash-dot-dot ..."""
    return "none" if turn == 0 else " ".join(["8 3", *["2 3"] * (turn - 1)])


def _experiment_style(index: int) -> str:
    """Return the colour and dash pattern of an experiment, and the rule by which its checkbox hides its lines."""
    turn, color = divmod(index, len(COLORS))
    return (
        f".c{index} {{ color: {COLORS[color]}; stroke-dasharray: {dashes(turn)}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ .c{index} {{ color: {DARK_COLORS[color]}; }} }}\n"
        f"body:has(#show{index}:not(:checked)) .charts .c{index} {{ display: none; }}"
    )
