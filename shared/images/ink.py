"""Find the strokes in a picture of a page, and place them in an input as in the training images.

This follows the preparation of MNIST's digits (LeCun et al. 1998, section III.A): cut out the ink,
scale it into a box keeping its proportions, and put its centre of mass in the middle of the input.
MNIST's pages were clean scans; here the background (ground) may be unevenly lit and speckled.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from shared.images.ready import border
from shared.images.values import Bytes
from shared.model.architecture import Shape

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Value = TypeVar("Value", bound=np.generic)

GRID = 48  # cells on the longer side, in which connected ink is searched
SMALLEST_CONTRAST = 12.0  # of 255; with less there is no ink
NOISE_SIGMAS = 4.0  # standard deviations of the ground's noise that ink must exceed
FITS = 4  # iterations of fitting the ground, each without pixels that look like ink
SPECK = 0.06  # pieces with less than this share of the largest piece's ink are dirt
FAINT = 0.5  # pieces fainter than this share of the largest one's depth are folds or shadows
FOREIGN = 0.06  # ink that touches more than this share of the border is not part of the drawing
REACH = 8  # the shorter side divided by this is wider than strokes and narrower than shadows
BINS = 128  # bins of depth for the choice of the threshold
FEW = 20_000  # pixels from which the noise is estimated
THIN = 0.095  # share of the box; thinner strokes, as of a pen on a large page, are widened to it


def find_ink(grey: Bytes, ink_is_dark: bool | None) -> Bytes | None:
    """Cut the strokes out of a picture (H, W): 0 is no ink, 255 full ink.

    If ``ink_is_dark`` is None, the ink is whatever stands out more from the ground. Returns None if
    nothing stands out.
    """
    above = grey.astype(np.float32) - ground_of(grey)
    dark = _stands_out_below(above) if ink_is_dark is None else ink_is_dark
    depth = -above if dark else above
    mask, least = _inked(depth)
    if mask is not None and _touches_border(mask):
        # Not only ink but e.g. a shadow or the table below the page: use the local ground.
        depth = _depth_nearby(grey, dark)
        mask, least = _inked(depth)
    if mask is None:
        return None
    mask = main_pieces(mask, depth)
    full = float(np.percentile(depth[mask], 80))
    low = min(least, 0.5 * full)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    strokes = ((depth[place] - low) / (full - low)).clip(0, 1)
    # Keep the soft edges of the strokes.
    strokes[~_widened(mask[place], 1 if max(mask.shape) < 200 else 2)] = 0
    cut: Bytes = np.rint(strokes * 255).astype(np.uint8)
    return cut


def set_ink(strokes: Bytes, box: int, shape: Shape) -> Bytes:
    """Place strokes of ``find_ink``, scaled to a longer side of ``box`` pixels, in an
    input (H, W).
    """
    height, width = strokes.shape
    picture = Image.fromarray(_thickened(strokes))
    scale = box / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
    small = small.astype(np.float32)
    if small.max() > 0:
        small *= 255 / max(float(small.max()), 64.0)
    rows, columns = np.indices(small.shape)
    mass = max(float(small.sum()), 1e-9)
    top = round((shape.height - 1) / 2 - float((rows * small).sum()) / mass)
    left = round((shape.width - 1) / 2 - float((columns * small).sum()) / mass)
    top = min(max(top, 0), shape.height - small.shape[0])
    left = min(max(left, 0), shape.width - small.shape[1])
    canvas = np.zeros((shape.height, shape.width), np.uint8)
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = np.rint(small.clip(0, 255))
    return canvas


def ground_of(grey: Bytes) -> Floats:
    """Estimate the brightness that each pixel of (H, W) would have without ink.

    Fits a surface of degree two by least squares to a coarse picture, repeatedly and each time
    without pixels that are far from it, starting with the border's brightness.
    """
    height, width = grey.shape
    step = max(1, min(height, width) // 64)
    coarse = grey[::step, ::step].astype(np.float32)
    y, x = np.meshgrid(
        np.linspace(-1, 1, coarse.shape[0], dtype=np.float32),
        np.linspace(-1, 1, coarse.shape[1], dtype=np.float32),
        indexing="ij",
    )
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1).reshape(-1, 6)
    values = coarse.reshape(-1)
    guess = np.full_like(values, float(np.median(border(coarse))))
    count, coefficients = 1, np.array([guess[0], 0, 0, 0, 0, 0], np.float32)
    for attempt in range(FITS):
        away = np.abs(values - guess)
        kept = away <= max(8.0, 2.0 * float(np.median(away)))
        count = 1 if attempt == 0 else 3 if attempt == 1 else 6
        if np.count_nonzero(kept) < 4 * count:
            break
        used = terms[kept][:, :count].astype(np.float64)
        found = np.linalg.lstsq(used.T @ used, used.T @ values[kept], rcond=None)[0]
        coefficients = np.zeros(6, np.float32)
        coefficients[:count] = found
        guess = terms @ coefficients
    one, across, down, both, across2, down2 = (float(value) for value in coefficients)
    v = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    u = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    surface = one + across * u + down * v + both * u * v + across2 * u * u + down2 * v * v
    fitted: Floats = surface.astype(np.float32)
    return fitted


def otsu(depth: Floats) -> float:
    """Return the threshold that splits positive depths into two groups of least variance.

    Source: Otsu, "A threshold selection method from gray-level histograms" (1979).
    """
    top = float(depth.max())
    # Equals np.histogram, which takes four times as long.
    cells = (depth[depth >= 0] * np.float32(BINS / top)).astype(np.uint8)
    counts = np.bincount(np.minimum(cells, BINS - 1), minlength=BINS)
    edges = np.linspace(0.0, top, BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    total, mass = below[-1], np.cumsum(counts * centres)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (mass[-1] * below - mass * total) ** 2 / (below * above)
    return float(edges[1 + int(np.nanargmax(np.where(above * below > 0, spread, -1)))])


def main_pieces(mask: Mask, depth: Floats) -> Mask:
    """Remove specks, faint lines and objects that reach in from the border from the mask.

    Pieces are found on a coarse grid, so that strokes with gaps stay together.
    """
    height, width = mask.shape
    cell = max(1.0, max(height, width) / GRID)
    rows = (np.arange(height) / cell).astype(np.intp)
    columns = (np.arange(width) / cell).astype(np.intp)
    shape = int(rows[-1]) + 1, int(columns[-1]) + 1
    y, x = np.nonzero(mask)
    place = rows[y] * shape[1] + columns[x]
    count = np.bincount(place, minlength=shape[0] * shape[1])
    labels = _label(count.reshape(shape) > 0)
    pieces = labels.reshape(-1)[place] - 1  # the piece of every pixel of ink
    ink = np.bincount(pieces, weights=depth[y, x])
    strength = ink / np.bincount(pieces)
    touching = np.bincount(border(labels), minlength=len(ink) + 1)[1:]
    foreign = touching >= max(3, (2 * sum(shape) - 4) // 16)  # e.g. the table or a ruled frame
    if not foreign.all():
        ink[foreign] = 0
    kept = (ink >= SPECK * ink.max()) & (strength >= FAINT * strength[ink.argmax()])
    kept_mask: Mask = mask & np.concatenate([[False], kept])[labels][rows[:, None], columns]
    return kept_mask


def _label(cells: Mask) -> npt.NDArray[np.int64]:
    """Number the connected pieces (8 neighbours): 0 is no piece, 1 the first one."""
    labels = np.zeros(cells.shape, dtype=np.int64)
    count = 0
    for start in zip(*np.nonzero(cells), strict=True):
        if labels[start]:
            continue
        count += 1
        labels[start] = count
        todo = [start]
        while todo:
            y, x = todo.pop()
            near = (slice(max(0, y - 1), y + 2), slice(max(0, x - 1), x + 2))
            for dy, dx in zip(*np.nonzero(cells[near] & (labels[near] == 0)), strict=True):
                place = near[0].start + dy, near[1].start + dx
                labels[place] = count
                todo.append(place)
    return labels


def _inked(depth: Floats) -> tuple[Mask | None, float]:
    """Return the mask of ink, None if there is none, and the threshold of depth."""
    step = max(1, int((depth.size / FEW) ** 0.5))
    few = depth[::step, ::step]
    noise = 1.4826 * float(np.median(np.abs(few - np.median(few))))
    least = max(SMALLEST_CONTRAST, NOISE_SIGMAS * noise)
    if float(depth.max(initial=0.0)) < least:
        return None, least
    return depth > max(least, otsu(depth)), least


def _touches_border(mask: Mask) -> bool:
    edge = border(mask)
    return bool(np.count_nonzero(edge) > FOREIGN * edge.size)


def _depth_nearby(grey: Bytes, dark: bool) -> Floats:
    """Return how much darker (or lighter) each pixel is than the lightest (darkest) one
    in reach.
    """
    picture = Image.fromarray(grey if dark else 255 - grey)
    factor = max(1, min(picture.size) // 120)
    small = picture.reduce(factor) if factor > 1 else picture
    reach = 2 * (min(small.size) // (2 * REACH)) + 1
    closed = small.filter(ImageFilter.MaxFilter(reach)).filter(ImageFilter.MinFilter(reach))
    ground = closed.filter(ImageFilter.BoxBlur(1)).resize(picture.size, Image.Resampling.BILINEAR)
    return np.asarray(ground, dtype=np.float32) - np.asarray(picture, dtype=np.float32)


def _stands_out_below(above: Floats) -> bool:
    # The third power, so that a little ink outweighs much noise.
    return float(np.einsum("yx,yx,yx->", above, above, above)) < 0


def _thickened(strokes: Bytes) -> Bytes:
    """Widen strokes that are thinner, relative to the drawing, than a pen's on a form."""
    inked = strokes > 127
    area = np.count_nonzero(inked)
    edge = np.count_nonzero(inked[1:] != inked[:-1]) + np.count_nonzero(
        inked[:, 1:] != inked[:, :-1]
    )
    if not edge:
        return strokes
    # An edge of length 1 crosses 1.27 pixel borders on average over all directions.
    wide = 2 * area / edge * 1.27
    wanted = THIN * max(strokes.shape)
    grow = round((wanted - wide) / 2)
    if grow < 1:
        return strokes
    return _widened(np.pad(strokes, grow), min(grow, 40))


def _widened(values: npt.NDArray[Value], reach: int) -> npt.NDArray[Value]:
    """Return the maximum within ``reach`` rows and columns of each pixel of (H, W).

    Computed over rows, then columns, by shifts that double the reach each time.
    """
    wide = values.copy()
    for turned in (wide, wide.T):
        done = 0
        while done < reach:
            step = min(max(done, 1), reach - done)
            before = turned.copy()
            np.maximum(turned[step:], before[:-step], out=turned[step:])
            np.maximum(turned[:-step], before[step:], out=turned[:-step])
            done += step
    return wide
