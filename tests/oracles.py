"""Every formula once more, slowly: plain Python loops over plain numbers, written from the definitions.

Arguments and results are nested lists (``tensor.tolist()``); nothing here is shared with the code under test.
"""

from __future__ import annotations

import math
from itertools import product

Grid = list[list[float]]
Box = tuple[float, float, float, float]


# ---------------------------------------------------------------- grids, boxes, rasters
def level_locations(h: int, w: int, stride: int) -> list[tuple[int, int]]:
    return [(stride // 2 + j * stride, stride // 2 + i * stride) for i in range(h) for j in range(w)]


def draw_box(box: Box, height: int, width: int) -> list[list[int]]:
    """The filled box on a canvas: columns int(x0) up to but not including int(x1 + 1), rows likewise."""
    x0, y0, x1, y1 = box
    canvas = [[0] * width for _ in range(height)]
    for y in range(max(int(y0), 0), min(int(y1 + 1), height)):
        for x in range(max(int(x0), 0), min(int(x1 + 1), width)):
            canvas[y][x] = 1
    return canvas


def centroid(canvas: list[list[int]]) -> tuple[float, float] | None:
    """(x, y) of a drawn mask's centre of mass, None if nothing was drawn."""
    xs = [x for row in canvas for x, value in enumerate(row) if value]
    ys = [y for y, row in enumerate(canvas) for value in row if value]
    return (sum(xs) / len(xs), sum(ys) / len(ys)) if xs else None


def sample(canvas: list[list[int]], stride: int) -> list[list[int]]:
    return [row[stride // 2 :: stride] for row in canvas[stride // 2 :: stride]]


def aligned_bilinear(x: Grid, factor: int) -> Grid:
    """One channel: a sample every 1 / factor of a cell; the first stands ``factor // 2`` times more in front, border cells go on behind."""
    h, w = len(x), len(x[0])

    def at(i: float, j: float) -> float:
        i0, j0 = math.floor(i), math.floor(j)
        total = 0.0
        for a, b in product((0, 1), (0, 1)):
            weight = (i - i0 if a else 1 - i + i0) * (j - j0 if b else 1 - j + j0)
            total += weight * x[min(i0 + a, h - 1)][min(j0 + b, w - 1)]
        return total

    half = factor // 2
    return [[at(max(i - half, 0) / factor, max(j - half, 0) / factor) for j in range(factor * w)] for i in range(factor * h)]


def resampled(x: Grid, stride: int, size: tuple[int, int], cells: tuple[int, int], new_stride: int, new_size: tuple[int, int]) -> Grid:
    """One mask of an image of ``size``, read at the pixel centres of the cells of the same image at ``new_size``."""

    def places(axis: int) -> list[tuple[int, int, float]]:
        found, last = [], (len(x), len(x[0]))[axis] - 1
        for cell in range(cells[axis]):
            centre = new_stride // 2 + new_stride * cell + 0.5
            place = (centre * size[axis] / new_size[axis] - 0.5 - stride // 2) / stride
            place = min(max(place, 0), last)
            found.append((math.floor(place), min(math.floor(place) + 1, last), place - math.floor(place)))
        return found

    def along(i: int, left: int, right: int, share: float) -> float:
        return (1 - share) * x[i][left] + share * x[i][right]

    return [[(1 - a) * along(up, *column) + a * along(down, *column) for column in places(1)] for up, down, a in places(0)]


def offsets(size: int, dilation: int) -> list[tuple[int, int]]:
    steps = [dilation * (k - size // 2) for k in range(size)]
    return [(dy, dx) for dy in steps for dx in steps if dy or dx]


# ---------------------------------------------------------------- colours
def lab(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """CIE Lab of one sRGB colour 0..255, D65, 2 degrees."""

    def linear(value: float) -> float:
        value /= 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    def curve(ratio: float) -> float:
        return ratio ** (1 / 3) if ratio > 0.008856 else 7.787 * ratio + 16 / 116

    r, g, b = linear(red), linear(green), linear(blue)
    x = curve((0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.95047)
    y = curve(0.212671 * r + 0.715160 * g + 0.072169 * b)
    z = curve((0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def color_similarity(image: list[Grid], valid: Grid, size: int, dilation: int) -> list[Grid]:
    """One image, three channels of (h, w) -> (E, h, w)."""
    h, w = len(valid), len(valid[0])
    colors = [[lab(*(image[c][i][j] for c in range(3))) for j in range(w)] for i in range(h)]
    result = []
    for dy, dx in offsets(size, dilation):
        plane = [[0.0] * w for _ in range(h)]
        for i, j in product(range(h), range(w)):
            y, x = i + dy, j + dx
            if 0 <= y < h and 0 <= x < w:
                plane[i][j] = math.exp(-0.5 * math.dist(colors[i][j], colors[y][x])) * valid[y][x]
        result.append(plane)
    return result


# ---------------------------------------------------------------- convolutions
def mean_field(
    p: Grid,
    lab: list[Grid],
    box: Grid,
    *,
    sigma: float,
    dilations: tuple[int, ...],
    unary: float,
    strength: float,
    iterations: int,
    evidence: Grid | None = None,
) -> Grid:
    """Refined scores of one mask ``p`` (h, w) on colours (3, h, w): at each step every pixel looks at the scores of the step before."""
    h, w = len(p), len(p[0])
    q = [[p[y][x] * box[y][x] for x in range(w)] for y in range(h)]
    for _ in range(iterations):
        new = [[0.0] * w for _ in range(h)]
        for y, x in product(range(h), range(w)):
            total = votes = 0.0
            for dy, dx in (offset for dilation in dilations for offset in offsets(3, dilation)):
                if 0 <= y + dy < h and 0 <= x + dx < w:
                    squares = sum((channel[y][x] - channel[y + dy][x + dx]) ** 2 for channel in lab)
                    weight = math.exp(-squares / (2 * sigma**2))
                    total += weight
                    votes += weight * (2 * q[y + dy][x + dx] - 1)
            if box[y][x]:
                more = evidence[y][x] if evidence else 0.0
                new[y][x] = sigmoid(unary * math.log(p[y][x] / (1 - p[y][x])) + strength * votes / total + more)
        q = new
    return q


def color_evidence(p: Grid, lab: list[Grid], box: Grid, around: Grid) -> Grid:
    """log((f + 0.001) / (s + 0.001)) in the box: a bin's shares of the mask's weight and of the ring's pixels; bins of 8 x 8 x 8."""
    h, w = len(p), len(p[0])
    limits = ((0, 12), (-16, 15), (-16, 15))
    cells = list(product(range(h), range(w)))

    def color(y: int, x: int) -> tuple[int, ...]:
        return tuple(min(max(math.floor(channel[y][x] / 8), low), high) for channel, (low, high) in zip(lab, limits, strict=True))

    def share(weights: dict[tuple[int, int], float], y: int, x: int) -> float:
        return sum(weight for at, weight in weights.items() if color(*at) == color(y, x)) / max(sum(weights.values()), 1)

    mask = {(y, x): p[y][x] for y, x in cells if box[y][x]}
    ring = {(y, x): 1.0 for y, x in cells if around[y][x] and not box[y][x]}
    return [[math.log((share(mask, y, x) + 1e-3) / (share(ring, y, x) + 1e-3)) if box[y][x] else 0.0 for x in range(w)] for y in range(h)]


def modulated_deform_conv(x: list[Grid], weight: list[list[Grid]], raw: list[Grid], stride: int) -> list[Grid]:
    """3x3 with padding 1: tap t of output (i, j) stands at its place plus ``raw[2 t], raw[2 t + 1]`` (y, x), times sigmoid(raw[18 + t])."""

    def at(plane: Grid, y: float, x: float) -> float:
        total = 0.0
        for i, j in product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
            if 0 <= i < len(plane) and 0 <= j < len(plane[0]):  # zeros outside
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * plane[i][j]
        return total

    result = []
    for kernel in weight:
        out = [[0.0] * len(raw[0][0]) for _ in raw[0]]
        for i, j, a, b in product(range(len(out)), range(len(out[0])), range(3), range(3)):
            t = 3 * a + b
            place = (i * stride - 1 + a + raw[2 * t][i][j], j * stride - 1 + b + raw[2 * t + 1][i][j])
            out[i][j] += sum(k[a][b] * at(plane, *place) for k, plane in zip(kernel, x, strict=True)) * sigmoid(raw[18 + t][i][j])
        result.append(out)
    return result


# ---------------------------------------------------------------- losses
def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def focal(logits: list[Grid], labels: list[list[int]], num_pos: float) -> float:
    """(B, K, C) logits and (B, K) labels, C where background."""
    total = 0.0
    for image, wanted in zip(logits, labels, strict=True):
        for row, label in zip(image, wanted, strict=True):
            for c, logit in enumerate(row):
                p = sigmoid(logit)
                total += -0.25 * (1 - p) ** 2 * math.log(p) if c == label else -0.75 * p**2 * math.log(1 - p)
    return total / num_pos


def iou_and_giou(pred: Box, target: Box) -> tuple[float, float]:
    """Both boxes drawn around the origin, from distances to their sides."""
    a = (-pred[0], -pred[1], pred[2], pred[3])
    b = (-target[0], -target[1], target[2], target[3])
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    iou = (inter + 1) / (union + 1)
    return iou, iou - (hull - union) / hull


def centerness(left: float, top: float, right: float, bottom: float) -> float:
    return math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))


def binary_cross_entropy(logit: float, target: float) -> float:
    return -target * math.log(sigmoid(logit)) - (1 - target) * math.log(1 - sigmoid(logit))


def dice(scores: list[float], truth: list[float]) -> float:
    inter = squares = 0.0
    for p, t in zip(scores, truth, strict=True):
        inter += p * t
        squares += p * p + t * t
    return 1 - 2 * inter / (squares + 1e-5)


def teacher(scores: list[list[float]], targets: list[list[float]], trusted: list[list[bool]], quality: list[float]) -> float:
    """Dice over the trusted pixels of each mask, weighted by quality, over the masks with a quality."""
    total, number = 0.0, 0
    for p, t, pixels, s in zip(scores, targets, trusted, quality, strict=True):
        kept = [i for i, counts in enumerate(pixels) if counts]
        total += s * dice([p[i] for i in kept], [t[i] for i in kept])
        number += s > 0
    return total / max(number, 1)


def projection(scores: list[Grid], boxes: list[Grid]) -> float:
    total = 0.0
    for mask, box in zip(scores, boxes, strict=True):
        columns = dice([max(column) for column in zip(*mask, strict=True)], [max(column) for column in zip(*box, strict=True)])
        total += columns + dice([max(row) for row in mask], [max(row) for row in box])
    return total / len(scores)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def minus_log_same(a: float, b: float) -> float:
    """-log of the probability that two pixels with logits a and b have one label, the larger term taken out of the sum."""
    both, neither = log_sigmoid(a) + log_sigmoid(b), log_sigmoid(-a) + log_sigmoid(-b)
    larger = max(both, neither)
    return -larger - math.log(math.exp(both - larger) + math.exp(neither - larger))


def pairwise(
    logits: list[Grid], boxes: list[Grid], similarity: list[list[Grid]], im_inds: list[int], size: int, dilation: int, thresh: float
) -> float:
    total = weights = 0.0
    for n, (mask, box) in enumerate(zip(logits, boxes, strict=True)):
        h, w = len(mask), len(mask[0])
        for e, (dy, dx) in enumerate(offsets(size, dilation)):
            for i, j in product(range(h), range(w)):
                if not box[i][j] or similarity[im_inds[n]][e][i][j] < thresh:
                    continue
                weights += 1
                if 0 <= i + dy < h and 0 <= j + dx < w:
                    total += minus_log_same(mask[i][j], mask[i + dy][j + dx])
    return total / max(weights, 1)


# ---------------------------------------------------------------- assignment
def assign(
    locations: list[tuple[float, float]],
    strides: list[float],
    levels: list[int],
    boxes: list[Box],
    padded_size: tuple[int, int],
    ranges: tuple[float, ...],
    radius: float,
) -> list[int]:
    """Index of the box that each location learns, -1 for none."""
    bounds = [-1.0, *ranges, math.inf]
    centers = [centroid(draw_box(box, *padded_size)) for box in boxes]
    result = []
    for (x, y), stride, level in zip(locations, strides, levels, strict=True):
        best, best_area = -1, math.inf
        for g, ((x0, y0, x1, y1), center) in enumerate(zip(boxes, centers, strict=True)):
            if center is None:
                continue
            reach = radius * stride
            in_x = max(x0, center[0] - reach) < x < min(x1, center[0] + reach)
            in_y = max(y0, center[1] - reach) < y < min(y1, center[1] + reach)
            farthest = max(x - x0, y - y0, x1 - x, y1 - y)
            area = (x1 - x0) * (y1 - y0)
            if in_x and in_y and bounds[level] <= farthest <= bounds[level + 1] and area < best_area:
                best, best_area = g, area
        result.append(best)
    return result


def mask_samples(gt_inds: list[list[int]], quality: Grid, per_image: int) -> list[tuple[int, int, int]]:
    """(image, location, ground truth) of the chosen positives: by image, person, falling quality, location."""
    chosen = []
    for b, (row, scores) in enumerate(zip(gt_inds, quality, strict=True)):
        people = sorted({g for g in row if g >= 0})
        for g in people:
            own = sorted((k for k in range(len(row)) if row[k] == g), key=lambda k: (-scores[k], k))
            chosen += [(b, k, g) for k in own[: max(per_image // len(people), 1)]]
    return chosen


# ---------------------------------------------------------------- masks of instances
def dynamic_mask_head(
    features: list[Grid], params: list[float], location: tuple[float, float], size: float, stride: int, channels: int, num_layers: int
) -> Grid:
    """One instance: M features of (h, w) -> logits (h, w). All weights, then all biases; relative coordinates written out."""
    widths = [len(features) + 2] + [channels] * (num_layers - 1) + [1]
    numbers = iter(params)
    weights = [[[next(numbers) for _ in range(widths[i])] for _ in range(widths[i + 1])] for i in range(num_layers)]
    biases = [[next(numbers) for _ in range(b)] for b in widths[1:]]
    assert next(numbers, None) is None
    logits = [[0.0] * len(features[0][0]) for _ in features[0]]
    for i, j in product(range(len(logits)), range(len(logits[0]))):
        pixel = (j * stride + stride // 2, i * stride + stride // 2)
        x = [(location[0] - pixel[0]) / size, (location[1] - pixel[1]) / size, *(plane[i][j] for plane in features)]
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = [sum(w * value for w, value in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
            x = x if layer == num_layers - 1 else [max(value, 0.0) for value in x]
        logits[i][j] = x[0]
    return logits


# ---------------------------------------------------------------- detections
def box_iou(a: Box, b: Box) -> float:
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def detect(
    cls_scores: Grid, ctr_scores: list[float], boxes: list[Box], levels: list[int], thresh: float, per_level: int, nms: float, most: int
) -> list[tuple[int, int, float]]:
    """(location, class, score) of one image's detections, best first."""
    pairs = [(score * ctr_scores[k], k, c) for k, row in enumerate(cls_scores) for c, score in enumerate(row)]
    pairs = [pair for pair in pairs if pair[0] > thresh]
    candidates = []
    for level in sorted(set(levels)):
        candidates += sorted((pair for pair in pairs if levels[pair[1]] == level), reverse=True)[:per_level]
    kept: list[tuple[int, int, float]] = []
    for value, k, c in sorted(candidates, reverse=True):
        if all(c != other or box_iou(boxes[k], boxes[j]) <= nms for j, other, _ in kept):
            kept.append((k, c, math.sqrt(value)))
    return kept[:most]


def overlap_degree(a: list[list[float]], b: list[list[float]]) -> float:
    """Eq. 1 of two masks, pixel by pixel; 0 for two empty ones."""
    common = total = 0.0
    for row_a, row_b in zip(a, b, strict=True):
        for x, y in zip(row_a, row_b, strict=True):
            common += abs(x * y)
            total += abs(x + y)
    return common / total if total else 0.0


def overlap(masks: list[list[list[float]]], im_inds: list[int], gt_inds: list[int], drawn: set[int], reduction: str) -> float:
    """Eq. 2 for a given draw (indices of masks): pair by pair."""
    images = []
    for image in sorted(set(im_inds)):
        own = [n for n, i in enumerate(im_inds) if i == image]
        pairs = [(n, k) for n in own for k in own if k in drawn and gt_inds[n] != gt_inds[k]]
        if pairs:
            total = sum(overlap_degree(masks[n], masks[k]) for n, k in pairs)
            images.append(total / {"pairs": len(pairs), "masks": len(own), "sum": 1}[reduction])
    if not images:
        return 0.0
    return sum(images) if reduction == "sum" else sum(images) / len(images)
