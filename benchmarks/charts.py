"""Bar charts as SVG, drawn by hand: nothing to install, and a text file that shows what changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _MARGIN = 860, 28
_NAMES_WIDTH, _VALUES_WIDTH = 268, 80
_BAR_HEIGHT, _BAR_PITCH = 20, 30
_TITLE_HEIGHT, _PANEL_TITLE_HEIGHT, _PANEL_GAP = 52, 30, 22
_BASE, _OURS, _TEXT, _QUIET = "#b9c2cc", "#1f7a4d", "#1b1f24", "#59636e"
_ROUNDED = 'rx="3"'


@dataclass(frozen=True)
class Bar:
    """One figure.

    Attributes:
        name: What it is of.
        value: Its length, from 0 up.
        is_ours: Whether it is of this project.
    """

    name: str
    value: float
    is_ours: bool


@dataclass(frozen=True)
class Panel:
    """Bars on a scale of their own, longest first or not: as they come.

    Attributes:
        title: What they have in common.
        bars: At least one.
    """

    title: str
    bars: Sequence[Bar]


def draw_bars(title: str, subtitle: str, panels: Sequence[Panel]) -> str:
    """Return an SVG of the panels, one below the other, each value at the end of its bar.

    Args:
        title: One line.
        subtitle: One line: the unit, and whether less is better.
        panels: At least one.
    """
    top = _MARGIN + _TITLE_HEIGHT
    parts = [
        _write_text(_MARGIN, _MARGIN + 14, title, size=18, weight=600),
        _write_text(_MARGIN, _MARGIN + 36, subtitle, size=13, colour=_QUIET),
    ]
    for panel in panels:
        parts += _draw_panel(panel, top)
        top += _PANEL_TITLE_HEIGHT + _BAR_PITCH * len(panel.bars) + _PANEL_GAP
    height = top - _PANEL_GAP + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff" rx="8"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _draw_panel(panel: Panel, top: int) -> list[str]:
    parts = [_write_text(_MARGIN, top + 18, panel.title, size=14, weight=600)]
    left = _MARGIN + _NAMES_WIDTH
    scale = (_WIDTH - _MARGIN - _VALUES_WIDTH - left) / max(bar.value for bar in panel.bars)
    for number, bar in enumerate(panel.bars):
        y = top + _PANEL_TITLE_HEIGHT + _BAR_PITCH * number
        length = max(1.0, bar.value * scale)
        weight, fill = (600, _OURS) if bar.is_ours else (400, _BASE)
        middle = y + _BAR_HEIGHT - 5
        parts += [
            _write_text(left - 10, middle, bar.name, size=13, weight=weight, anchor="end"),
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{_BAR_HEIGHT}" fill="{fill}" {_ROUNDED}/>',
            _write_text(left + length + 8, middle, _round(bar.value), size=13, weight=weight),
        ]
    return parts


def _write_text(
    x: float, y: float, text: str, *, size: int, weight: int = 400, colour: str = _TEXT, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _round(value: float) -> str:
    """Return three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
