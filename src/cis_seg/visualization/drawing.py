"""Overlays of masks on images, ground truth and predictions side by side. Masks are decoded one at a time.

Legend: images are (H, W, 3) uint8 RGB; boxes x0, y0, x1, y1 in pixels of the original image; a view is the image at the
size at which it is drawn (small images enlarged, so that lines and text are legible).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cis_seg.coco.boxes import box_iou
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.rle import decode
from cis_seg.structures import Instances
from cis_seg.visualization.fonts import class_captions, fitted

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

# Twelve colours that remain distinct from each other and from skin, asphalt and sky when half transparent.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (255, 59, 48), (0, 150, 255), (52, 220, 80), (255, 214, 10), (191, 64, 255), (0, 225, 225),
    (255, 140, 0), (255, 80, 190), (170, 235, 30), (60, 80, 255), (0, 170, 130), (255, 170, 150),
)  # fmt: skip
CROWD_COLOR = (150, 150, 150)
FILL = 0.42  # opacity; less is invisible on bright clothes, more hides the image
VIEW_SIDE = 720  # longer side at which lines of 2 px and text of 13 px are legible
SAME_OBJECT_IOU = 0.5  # the usual threshold for a match of prediction and ground truth
MARGIN = 8  # px between panels


@dataclass(frozen=True)
class Drawing:
    """One object to draw on an image."""

    box: Box
    mask: Mapping[str, Any] | None  # RLE at the original size; None draws only the box
    label: int = 0
    score: float | None = None  # None for ground truth
    caption: str = ""
    crowd: bool = False  # an ignore region, drawn in grey


def predicted_drawings(instances: Instances, class_names: Sequence[str], threshold: float) -> list[Drawing]:
    """Return the detections with a score of at least ``threshold``; captions name the class if there are several."""
    names = class_captions(class_names)
    rows = zip(instances.boxes.tolist(), instances.masks, instances.labels.tolist(), instances.scores.tolist(), strict=True)
    return [
        Drawing((box[0], box[1], box[2], box[3]), mask, label, score, f"{names[label]} {score:.2f}".strip())
        for box, mask, label, score in rows
        if score >= threshold
    ]


def true_drawings(ground_truth: GroundTruth, image_id: int) -> list[Drawing]:
    """Return the annotations of an image, ignore regions first, so that instances are drawn over them."""
    labels = {category_id: label for label, category_id in enumerate(ground_truth.category_ids)}
    names = class_captions(ground_truth.category_names)
    drawings = []
    for annotation in sorted(ground_truth.image_annotations(image_id), key=lambda a: -int(a["iscrowd"])):
        x, y, width, height = annotation["bbox"]
        label, crowd = labels[annotation["category_id"]], bool(annotation["iscrowd"])
        caption = "crowd" if crowd else names[label]
        mask = None if annotation["id"] in ground_truth.maskless else annotation["segmentation"]
        drawings.append(Drawing((x, y, x + width, y + height), mask, label, None, caption, crowd))
    return drawings


def neighbour_colors(drawings: Sequence[Drawing], like: Sequence[Drawing] = (), like_colors: Sequence[int] = ()) -> list[int]:
    """Return a palette index for each drawing, different for overlapping boxes as far as twelve colours suffice.

    Greedy: each drawing in turn gets the colour that the fewest neighbours have, then the fewest others. A drawing that is also in
    ``like`` (box IoU of at least 0.5, matched one to one) keeps its colour there, so that an instance has the same colour in ground truth
    and prediction.
    """
    boxes, like_boxes = ([(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in (d.box for d in group)] for group in (drawings, like))
    near, shared = box_iou(boxes, boxes) > 0, box_iou(boxes, like_boxes)
    colors = [-1] * len(drawings)
    while shared.size and shared.max() >= SAME_OBJECT_IOU:
        own, other = np.unravel_index(int(shared.argmax()), shared.shape)
        colors[int(own)] = like_colors[int(other)]
        shared[own, :], shared[:, other] = 0, 0
    for index, color in enumerate(colors):
        if color < 0:
            beside = [colors[other] for other in np.flatnonzero(near[index])]
            colors[index] = min(range(len(PALETTE)), key=lambda color: (beside.count(color), colors.count(color), color))
    return colors


def view_scale(size: tuple[int, int], max_side: int | None = None) -> float:
    """Return the scale at which an image of (height, width) is drawn: an integer factor up within ``max_side``, or down to it."""
    longer = max(size)
    if max_side is not None and longer > max_side:
        return max_side / longer
    factor = max(round(VIEW_SIDE / longer), 1)
    return float(factor if max_side is None else min(factor, max_side // longer))


def resized(pixels: Pixels, scale: float, *, smooth: bool = True) -> Pixels:
    """Scale ``pixels`` (H, W[, 3]) by ``scale``; ``smooth=False`` keeps the values of a mask or label map."""
    if scale == 1:
        return pixels.copy()
    height, width = pixels.shape[:2]
    way = cv2.INTER_NEAREST if not smooth else cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(cv2.resize(pixels, size, interpolation=way), dtype=np.uint8)


def far_to_near(drawings: Sequence[Drawing]) -> list[Drawing]:
    """Sort drawings from far to near, so that near ones are drawn on top.

    A heuristic: on level ground and with an upright camera, a nearer person's feet are lower in the image. So the box with the lower bottom
    is nearer; among equal bottoms (both cut off by the image border) the one with the higher top.
    """
    return sorted(drawings, key=lambda drawing: (drawing.box[3], -drawing.box[1]))


def draw_instances(
    image: Pixels,
    drawings: Sequence[Drawing],
    colors: Sequence[int] | None = None,
    *,
    max_side: int | None = None,
    size: tuple[int, int] | None = None,
    boxes: bool = True,
) -> Pixels:
    """Draw translucent masks, outlines, thin boxes and captions on an image.

    Outlines are drawn after all fills, so that both outlines of overlapping masks stay visible.

    Args:
        image: (H, W, 3) uint8 RGB at the original size, or a reduced copy.
        drawings: what to draw, in pixels of the original.
        colors: palette indices from ``neighbour_colors``; computed if None.
        max_side: maximum of the longer side in pixels; None for any size.
        size: (height, width) of the original if ``image`` is a reduced copy.
        boxes: also draw the boxes of drawings with a mask; otherwise captions are placed on top of the masks.

    Returns:
        The view, (h, w, 3) uint8.
    """
    scale = view_scale((image.shape[0], image.shape[1]), max_side)
    view = resized(image, scale)
    if size is not None:
        scale *= max(image.shape[:2]) / max(size)
    width = max(round(max(view.shape[:2]) / VIEW_SIDE * 2), 2)
    rgb = [CROWD_COLOR if d.crowd else PALETTE[c] for d, c in zip(drawings, colors or neighbour_colors(drawings), strict=True)]
    outlines = [_fill(view, drawing, color) for drawing, color in zip(drawings, rgb, strict=True)]
    for drawing, color, outline in zip(drawings, rgb, outlines, strict=True):
        x0, y0, x1, y1 = (round(value * scale) for value in drawing.box)
        if boxes or not outline:
            cv2.rectangle(view, (x0, y0), (x1 - 1, y1 - 1), color, max(width // 2, 1))
        cv2.drawContours(view, outline, -1, color, width, cv2.LINE_AA)
    places = [_caption_place(drawing, [] if boxes else outline, scale) for drawing, outline in zip(drawings, outlines, strict=True)]
    return _captioned(view, drawings, rgb, places)


def fitted_mask(rle: Mapping[str, Any], size: tuple[int, int]) -> Pixels:
    """Resize a mask to the (height, width) of a view, (h, w) uint8 of 0 and 1, by the majority of each pixel's area.

    Enlarged masks get smooth edges, and thin parts of reduced ones stay connected.
    """
    columns = decode(rle).T  # (W, H), contiguous
    if columns.shape != size[::-1]:
        way = cv2.INTER_AREA if size[0] < columns.shape[1] else cv2.INTER_LINEAR
        columns = np.asarray(cv2.resize(columns * np.uint8(255), size, interpolation=way) > 127, dtype=np.uint8)
    return np.asarray(cv2.transpose(columns), dtype=np.uint8)


def _fill(view: Pixels, drawing: Drawing, color: tuple[int, int, int]) -> list[Any]:
    """Blend one mask into ``view`` and return its outlines in pixels of the view."""
    if drawing.mask is None:
        return []
    mask = fitted_mask(drawing.mask, (view.shape[0], view.shape[1]))
    x, y, width, height = cv2.boundingRect(mask)
    part, inside = view[y : y + height, x : x + width], mask[y : y + height, x : x + width].astype(bool)
    part[inside] = (part[inside] * (1 - FILL) + np.array(color) * FILL).astype(np.uint8)
    return list(cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0])


def _caption_place(drawing: Drawing, outline: Sequence[Any], scale: float) -> tuple[float, float, float]:
    """Return x and y of a caption's lower edge in pixels of the view, and the share of its width left of x.

    The caption is centred over the highest point of the outline; without an outline it is above the box's left corner.
    """
    if not outline:
        return drawing.box[0] * scale, drawing.box[1] * scale, 0.0
    points = np.concatenate(outline)[:, 0]
    x, y = points[points[:, 1].argmin()].tolist()
    return x, y - 1, 0.5


def _captioned(
    view: Pixels,
    drawings: Sequence[Drawing],
    colors: Sequence[tuple[int, int, int]],
    places: Sequence[tuple[float, float, float]],
) -> Pixels:
    """Draw captions on a background of the instance's colour, moved down to avoid overlaps."""
    canvas = Image.fromarray(view)
    painter = ImageDraw.Draw(canvas)
    text_size = max(round(max(view.shape[:2]) / VIEW_SIDE * 12), 11)
    taken: list[Box] = []
    for drawing, color, (anchor, lower, share) in zip(drawings, colors, places, strict=True):
        if not drawing.caption:
            continue
        caption, font = fitted(drawing.caption, text_size)
        left, top, right, bottom = painter.textbbox((0, 0), caption, font=font)
        width, height = right - left + 4, bottom - top + 4
        x = min(max(anchor - share * width, 0), max(view.shape[1] - width, 0))
        y = min(max(lower - height, 0), max(view.shape[0] - height, 0))
        while any(x < t[2] and t[0] < x + width and y < t[3] and t[1] < y + height for t in taken) and y + 2 * height < view.shape[0]:
            y += height
        taken.append((x, y, x + width, y + height))
        painter.rectangle((x, y, x + width, y + height), fill=color)
        dark = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 120
        painter.text((x + 2 - left, y + 2 - top), caption, font=font, fill=(0, 0, 0) if dark else (255, 255, 255))
    return np.asarray(canvas)


def side_by_side(panels: Sequence[Pixels], titles: Sequence[str]) -> Pixels:
    """Return panels (H, W, 3) from left to right on white, each below its title."""
    text_size = max(round(max(panels[0].shape[:2]) / VIEW_SIDE * 16), 14)
    head = round(text_size * 1.6)
    width = sum(panel.shape[1] for panel in panels) + MARGIN * (len(panels) - 1)
    canvas = Image.new("RGB", (width, head + max(panel.shape[0] for panel in panels)), "white")
    painter, x = ImageDraw.Draw(canvas), 0
    for panel, title in zip(panels, titles, strict=True):
        text, font = fitted(title, text_size)
        painter.text((x + 4, head // 2), text, font=font, fill="black", anchor="lm")
        canvas.paste(Image.fromarray(panel), (x, head))
        x += panel.shape[1] + MARGIN
    return np.asarray(canvas)


def contact_sheet(panels: Sequence[Pixels], *, columns: int = 2, width: int = 960, height: int = 560) -> Pixels:
    """Return all panels on one white page in rows of ``columns``, each scaled to fit into ``width`` x ``height`` pixels."""
    fitted = [resized(panel, min(width / panel.shape[1], height / panel.shape[0])) for panel in panels]
    rows = [fitted[start : start + columns] for start in range(0, len(fitted), columns)]
    heights = [max(panel.shape[0] for panel in row) + MARGIN for row in rows]
    sheet = np.full((sum(heights), min(columns, len(fitted)) * (width + MARGIN), 3), 255, dtype=np.uint8)
    for row, y in zip(rows, np.cumsum([0, *heights[:-1]]), strict=True):
        for column, panel in enumerate(row):
            x = column * (width + MARGIN)
            sheet[y : y + panel.shape[0], x : x + panel.shape[1]] = panel
    return sheet


def truth_and_prediction(
    image: Pixels, truth: Sequence[Drawing], predictions: Sequence[Drawing], *, max_side: int | None = None, note: str = ""
) -> Pixels:
    """Return one panel: ground truth left, prediction right, an instance in the same colour on both sides."""
    true_colors = neighbour_colors(truth)
    colors = neighbour_colors(predictions, truth, true_colors)
    panels = [draw_instances(image, truth, true_colors, max_side=max_side), draw_instances(image, predictions, colors, max_side=max_side)]
    instances = sum(not drawing.crowd for drawing in truth)
    return side_by_side(panels, [f"ground truth: {instances}", f"prediction: {len(predictions)}{note}"])
