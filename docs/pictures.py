"""The pictures of the concepts, drawn while the site is built, in the colours of its theme.

A hook of mkdocs: a page that has a line `<!-- picture NAME -->` gets there what the function of that name draws.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FIRST, SECOND, QUIET = "#0072b2", "#d55e00", "#8a8a8a"
"""Okabe and Ito's, told apart by everybody, on light and on dark."""
KEPT = ((3, 9), (3, 9), (2, 9), (3, 6), (0, 6), (3, 0), (2, 6), (0, 0), (3, 6), (2, 9), (3, 9), (3, 9))
"""Of a model of twelve layers: KV groups of three, and ninths of the MLP's channels."""
FAMILY = ("aaaaaaaa", "aaaabaaa", "aaaabbaa", "aaaaaaca")
"""Four genomes of eight blocks; letters are what each makes of a block."""
LOOKS = (2, 4, 8)
SEEN = (8, 4, 2, 8, 2, 4)
"""Sequences that each of six candidates saw before it was dropped, or won."""
POINTS = ((40, 30), (70, 64), (108, 92), (160, 108), (230, 117), (300, 122))
BEHIND = ((96, 44), (150, 66), (190, 90), (262, 100))
WORST = (360, 16)


def flow() -> str:
    """From a recipe to what comes out."""
    boxes = (
        (0, "recipe", "model, text, genes, budgets"),
        (1, "space", "genomes and exact costs"),
        (2, "strategy", "proposes genomes"),
        (3, "evaluator", "real subnets, scored"),
        (4, "journal", "every answer, once"),
        (5, "confirmation", "held-out text, and rules"),
        (6, "report, export", "verdict, other tools' files"),
    )
    parts = []
    for place, title, about in boxes:
        x, y = (place % 4) * 178 + 2, (place // 4) * 92 + 4
        if place > 3:
            x = (7 - place) * 178 + 2
        parts.append(_box(x, y, 152, 52) + _text(x + 76, y + 22, title, bold=True) + _text(x + 76, y + 40, about, 10))
    arrows = [(154, 30, 178, 30), (332, 30, 356, 30), (510, 24, 534, 24), (534, 38, 510, 38), (612, 56, 612, 94)]
    arrows += [(536, 122, 512, 122), (358, 122, 334, 122)]
    parts += [_arrow(*one) for one in arrows]
    about = "Strategies ask and are told; nothing is evaluated twice, since every answer is in the journal first."
    return _figure(720, 152, parts, about)


def genome() -> str:
    """What a genome keeps of every layer."""
    parts = []
    for layer, (groups, channels) in enumerate(KEPT):
        x = 90 + layer * 50
        for y, kept, most, colour in ((10, groups, 3, FIRST), (86, channels, 9, SECOND)):
            parts.append(
                f'<rect x="{x}" y="{y}" width="38" height="60" fill="none" stroke="{QUIET}" stroke-dasharray="3 3"/>'
            )
            height = 60 * kept / most
            parts.append(f'<rect x="{x}" y="{y + 60 - height:.0f}" width="38" height="{height:.0f}" fill="{colour}"/>')
        parts.append(_text(x + 19, 164, str(layer), 11))
    parts += [
        _text(78, 44, "attention", 12, "end"),
        _text(78, 120, "MLP", 12, "end"),
        _text(78, 164, "layer", 12, "end"),
    ]
    left = sum(3 * 64 * 4 * groups + 512 * channels for groups, channels in KEPT)
    whole = len(KEPT) * (3 * 64 * 4 * 3 + 512 * 9)
    about = (
        "A genome of 24 genes: how many KV groups and channels each layer keeps. Two attentions and two MLPs are "
        f"dropped, layer 7 as a whole; {left / whole:.0%} of the blocks' weights are left."
    )
    return _figure(720, 172, parts, about)


def trie() -> str:
    """Blocks that genomes share are passed through once."""
    parts: list[str] = []
    nodes = {genome[:depth] for genome in FAMILY for depth in range(1, 9)}
    rows = {name: 30 + 38 * row for row, name in enumerate(FAMILY)}

    def place(prefix: str) -> tuple[int, int]:
        row = next(y for name, y in rows.items() if name.startswith(prefix))
        return 40 + 84 * (len(prefix) - 1), row

    for node in sorted(nodes):
        x, y = place(node)
        if len(node) > 1:
            before_x, before_y = place(node[:-1])
            parts.insert(0, f'<path d="M{before_x} {before_y}L{x} {y}" stroke="{QUIET}" fill="none"/>')
        colour = {"a": FIRST, "b": SECOND, "c": "#009e73"}[node[-1]]
        parts.append(f'<circle cx="{x}" cy="{y}" r="12" fill="{colour}"/>')
    about = (
        f"Four candidates of eight blocks (colours: what is left of each block) take {len(nodes)} passes through "
        f"blocks instead of {8 * len(FAMILY)}: what they begin with alike is computed once."
    )
    return _figure(680, 164, parts, about)


def race() -> str:
    """Candidates see more text only while they have a chance."""
    parts = []
    for row, seen in enumerate(SEEN):
        y, won = 14 + 24 * row, row == 0
        parts.append(_text(84, y + 12, "incumbent" if won else f"candidate {row}", 12, "end"))
        winner = seen == LOOKS[-1] and not won
        colour = SECOND if winner else FIRST if won else QUIET
        parts.append(f'<rect x="96" y="{y}" width="{seen * 66}" height="16" fill="{colour}"/>')
        if seen < LOOKS[-1]:
            parts.append(_text(104 + seen * 66, y + 13, "dropped", 11, "start"))
    for look in LOOKS:
        x = 96 + look * 66
        parts.append(f'<path d="M{x} 6V160" stroke="currentColor" stroke-dasharray="2 4" opacity="0.5"/>')
        parts.append(_text(x, 176, f"{look} sequences", 11))
    about = "A race: after each look a paired test drops whoever has lost, and of the others half see more of the text."
    return _figure(690, 184, parts, about)


def front() -> str:
    """A front, its hypervolume and its knee."""
    right, top = WORST
    edge = f"M{POINTS[0][0]} {top}V{POINTS[0][1]}" + "".join(f"H{x}V{y}" for x, y in POINTS[1:])
    parts = [
        f'<path d="{edge}H{right}V{top}Z" fill="{FIRST}" opacity="0.16"/>',
        '<path d="M30 6V140H380" stroke="currentColor" fill="none"/>',
    ]
    parts += [f'<circle cx="{x}" cy="{y}" r="4" fill="{QUIET}"/>' for x, y in BEHIND]
    for place, (x, y) in enumerate(POINTS):
        parts.append(f'<circle cx="{x}" cy="{y}" r="{8 if place == 2 else 5}" fill="{FIRST}"/>')
    cross = f"M{right - 8} {top - 8}l16 16m0 -16l-16 16"
    parts += [
        f'<path d="{cross}" stroke="{SECOND}" stroke-width="2"/>',
        _text(right + 14, top + 4, "reference", 11, "start"),
        _text(94, 108, "knee", 11, "end"),
        _text(205, 158, "size, or milliseconds", 12),
        _text(36, 14, "loss", 12, "start"),
    ]
    about = (
        "A front: nothing is both smaller and better than one of its points. Its hypervolume is the shaded share of "
        "the box that the reference closes; the knee is the point that gives up least of everything."
    )
    return _figure(460, 166, parts, about)


def _text(x: float, y: float, text: str, size: int = 14, anchor: str = "middle", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{weight} fill="currentColor">{text}</text>'


def _box(x: int, y: int, width: int, height: int) -> str:
    edge = f'fill="none" stroke="{FIRST}" stroke-width="1.5"'
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" {edge}/>'


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    return f'<path d="M{x} {y}L{to_x} {to_y}" stroke="currentColor" marker-end="url(#tip)"/>'


def _figure(width: int, height: int, parts: Sequence[str], about: str) -> str:
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8Z" fill="currentColor"/></marker>'
    )
    drawn = "".join(parts)
    return (
        f'<figure style="width:100%"><svg viewBox="0 0 {width} {height}" role="img" aria-label="{about}" '
        f'style="width:100%;max-width:{width}px">'
        f"<defs>{tip}</defs>{drawn}</svg><figcaption>{about}</figcaption></figure>"
    )


PICTURES: Mapping[str, Callable[[], str]] = {one.__name__: one for one in (flow, genome, trie, race, front)}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Mkdocs asks this of every page."""
    return re.sub(r"<!-- picture (\w+) -->", lambda match: PICTURES[match[1]](), markdown)
