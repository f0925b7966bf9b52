// @ts-check
/**
 * Prepares pictures like the digits of the training: finds the strokes, fits them to a box and centres
 * them by mass. The steps are those of shared/images/ink.py, so that the inputs of this page and of a
 * Python client are nearly equal. Both leave a picture of the network's size unchanged.
 */

/** @typedef {{data: Uint8Array, width: number, height: number}} Grey */
/** @typedef {{ground: number, ink: number, ink_box: number}} Steps */
/** @typedef {{pixels: Uint8Array, found: boolean}} Prepared */

const SAME = 0.4;
const OTHER = 0.6;
const LEAST_CONTRAST = 0.5;
const GRID = 48;
const SMALLEST_CONTRAST = 12;
const NOISE_SIGMAS = 4;
const FITS = 4;
const SPECK = 0.06;
const FAINT = 0.5;
const THIN = 0.095;
const LOBES = 3;

/**
 * @param {Grey} picture
 * @param {Steps} steps
 * @param {number} side of the network's input
 * @returns {Prepared} `found` is false if the picture shows no strokes
 */
export function prepare(picture, steps, side) {
  if (picture.width === side && picture.height === side) {
    const inverted = isInverted(picture, steps);
    if (inverted === false) return {pixels: picture.data, found: true};
    if (inverted) return {pixels: picture.data.map((value) => 255 - value), found: true};
  }
  const strokes = findInk(picture);
  if (!strokes) return {pixels: new Uint8Array(side * side).fill(steps.ground), found: false};
  const share = setInk(thickened(strokes), steps.ink_box, side);
  const contrast = steps.ink - steps.ground;
  return {pixels: share.map((value) => Math.round(steps.ground + value * (contrast / 255))), found: true};
}

/**
 * Convert RGBA of a canvas to grey, by the weights of ITU-R BT.601.
 * @param {ImageData} image
 * @returns {Grey}
 */
export function toGrey({data, width, height}) {
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++) {
    const at = 4 * i;
    grey[i] = (19595 * data[at] + 38470 * data[at + 1] + 7471 * data[at + 2] + 32768) >> 16;
  }
  return {data: grey, width, height};
}

/**
 * Whether the border has the ink's value; null if that cannot be decided.
 * @param {Grey} picture
 * @param {Steps} steps
 */
function isInverted(picture, {ground, ink}) {
  const spread = Math.max(...picture.data) - Math.min(...picture.data);
  if (!spread) return false;
  if (spread < LEAST_CONTRAST * Math.abs(ink - ground)) return null;
  const share = (median(border(picture)) - ground) / (ink - ground);
  if (share >= OTHER) return true;
  return share <= SAME ? false : null;
}

/**
 * Return the strokes, cut out: 0 for no ink, 255 for full ink; null if nothing stands out.
 * @param {Grey} picture
 * @returns {Grey | null}
 */
function findInk(picture) {
  const {data, width, height} = picture;
  const ground = groundOf(picture);
  const above = Float64Array.from(data, (value, i) => value - ground[i]);
  const dark = above.reduce((sum, value) => sum + value ** 3, 0) < 0;
  const depth = dark ? above.map((value) => -value) : above;
  const middle = median(depth);
  const noise = 1.4826 * median(depth.map((value) => Math.abs(value - middle)));
  const least = Math.max(SMALLEST_CONTRAST, NOISE_SIGMAS * noise);
  const top = largest(depth);
  if (top < least) return null;
  const line = Math.max(least, otsu(depth, top));
  const mask = mainPieces(Uint8Array.from(depth, (value) => Number(value > line)), depth, picture);
  const inked = depth.filter((_, i) => mask[i]).sort();
  if (!inked.length) return null;
  const full = inked[Math.floor(0.8 * (inked.length - 1))];
  const low = Math.min(least, 0.5 * full);
  const grown = spread(mask, width, height, Math.max(width, height) < 200 ? 1 : 2);
  const strokes = Uint8Array.from(depth, (value, i) =>
    grown[i] ? Math.round(255 * Math.min(Math.max((value - low) / (full - low), 0), 1)) : 0,
  );
  return cropped({data: strokes, width, height}, mask);
}

/**
 * Return the brightness that each pixel would have without ink: a surface of degree two, which is
 * fitted repeatedly, each time without the pixels that are far from it.
 * @param {Grey} picture
 */
function groundOf({data, width, height}) {
  const step = Math.max(1, Math.floor(Math.min(height, width) / 64));
  const places = [];
  const edge = [];
  const [rows, columns] = [Math.ceil(height / step), Math.ceil(width / step)];
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const value = data[y * step * width + x * step];
      places.push({terms: surface(unit(x, columns), unit(y, rows)), value});
      if (!y || !x || y === rows - 1 || x === columns - 1) edge.push(value);
    }
  }
  let found = [median(Float64Array.from(edge)), 0, 0, 0, 0, 0];
  for (let fit = 0; fit < FITS; fit++) {
    const away = places.map(({terms, value}) => Math.abs(value - dot(terms, found)));
    const far = Math.max(8, 2 * median(Float64Array.from(away)));
    const kept = places.filter((_, i) => away[i] <= far);
    const count = [1, 3, 6][Math.min(fit, 2)];
    if (kept.length < 4 * count) break;
    found = leastSquares(kept, count);
  }
  const ground = new Float64Array(width * height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      ground[i] = dot(surface(unit(x, width), unit(y, height)), found);
    }
  }
  return ground;
}

/** @type {(index: number, count: number) => number} */
const unit = (index, count) => (count > 1 ? (2 * index) / (count - 1) - 1 : 0);
/** @type {(x: number, y: number) => number[]} */
const surface = (x, y) => [1, x, y, x * y, x * x, y * y];
/** @type {(a: number[], b: number[]) => number} */
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/**
 * Return the coefficients of the first `count` terms, and 0 for the others, by solving the normal
 * equations with elimination.
 * @param {{terms: number[], value: number}[]} places
 * @param {number} count
 */
function leastSquares(places, count) {
  const table = Array.from({length: count}, (_, i) => [
    ...Array.from({length: count}, (_, j) =>
      places.reduce((sum, {terms}) => sum + terms[i] * terms[j], i === j ? 1e-9 : 0),
    ),
    places.reduce((sum, {terms, value}) => sum + terms[i] * value, 0),
  ]);
  for (let i = 0; i < count; i++) {
    for (let row = 0; row < count; row++) {
      if (row === i) continue;
      const factor = table[row][i] / table[i][i];
      table[row] = table[row].map((value, j) => value - factor * table[i][j]);
    }
  }
  return Array.from({length: 6}, (_, i) => (i < count ? table[i][count] / table[i][i] : 0));
}

/**
 * Return the threshold that divides positive depths into two groups of least variance (Otsu 1979).
 * @param {Float64Array} depth
 * @param {number} top
 */
function otsu(depth, top) {
  const bins = 128;
  const counts = new Float64Array(bins);
  for (const value of depth) {
    if (value >= 0) counts[Math.min(bins - 1, Math.floor((value / top) * bins))]++;
  }
  const total = counts.reduce((sum, count) => sum + count, 0);
  const mass = counts.reduce((sum, count, i) => sum + count * (i + 0.5), 0);
  let [below, massBelow, best, at] = [0, 0, -1, 0];
  for (let i = 0; i < bins; i++) {
    below += counts[i];
    massBelow += counts[i] * (i + 0.5);
    const between = below * (total - below);
    const variance = between ? (mass * below - massBelow * total) ** 2 / between : -1;
    if (variance > best) [best, at] = [variance, i];
  }
  return ((at + 1) / bins) * top;
}

/**
 * Return the mask without specks, faint lines, and pieces that touch the border. Pieces are found on
 * a coarse grid, so that strokes with gaps in them stay together.
 * @param {Uint8Array} mask
 * @param {Float64Array} depth
 * @param {Grey} picture
 */
function mainPieces(mask, depth, {width, height}) {
  const cell = Math.max(1, Math.max(width, height) / GRID);
  const across = Math.floor((width - 1) / cell) + 1;
  const down = Math.floor((height - 1) / cell) + 1;
  /** @type {(i: number) => number} */
  const place = (i) =>
    Math.floor(Math.floor(i / width) / cell) * across + Math.floor((i % width) / cell);
  const cells = new Uint8Array(across * down);
  mask.forEach((inked, i) => inked && (cells[place(i)] = 1));
  const {labels, count} = pieces(cells, across, down);
  const ink = new Float64Array(count + 1);
  const pixels = new Float64Array(count + 1);
  mask.forEach((inked, i) => {
    if (!inked) return;
    ink[labels[place(i)]] += depth[i];
    pixels[labels[place(i)]]++;
  });
  const touching = new Float64Array(count + 1);
  labels.forEach((label, i) => {
    const [y, x] = [Math.floor(i / across), i % across];
    if (!y || !x || y === down - 1 || x === across - 1) touching[label]++;
  });
  const most = Math.max(3, Math.floor((2 * (across + down) - 4) / 16));
  const own = ink.map((value, label) => (touching[label] >= most ? 0 : value));
  const rated = largest(own.subarray(1)) > 0 ? own : ink;
  const chief = rated.indexOf(largest(rated.subarray(1)), 1);
  const strength = ink.map((value, label) => value / pixels[label]);
  return mask.map((inked, i) => {
    const label = labels[place(i)];
    const kept = rated[label] >= SPECK * rated[chief] && strength[label] >= FAINT * strength[chief];
    return Number(inked && kept);
  });
}

/**
 * Number the pieces of connected cells, with eight neighbours each: 0 is none, 1 the first piece.
 * @param {Uint8Array} cells
 * @param {number} across
 * @param {number} down
 */
function pieces(cells, across, down) {
  const labels = new Uint16Array(cells.length);
  let count = 0;
  for (let start = 0; start < cells.length; start++) {
    if (!cells[start] || labels[start]) continue;
    count++;
    const todo = [start];
    labels[start] = count;
    while (todo.length) {
      const at = /** @type {number} */ (todo.pop());
      const [y, x] = [Math.floor(at / across), at % across];
      for (let row = Math.max(0, y - 1); row <= Math.min(down - 1, y + 1); row++) {
        for (let column = Math.max(0, x - 1); column <= Math.min(across - 1, x + 1); column++) {
          const near = row * across + column;
          if (!cells[near] || labels[near]) continue;
          labels[near] = count;
          todo.push(near);
        }
      }
    }
  }
  return {labels, count};
}

/**
 * Return for each pixel the largest value in the square within `reach` pixels.
 * @param {Uint8Array} data
 * @param {number} width
 * @param {number} height
 * @param {number} reach
 */
function spread(data, width, height, reach) {
  const rows = new Uint8Array(data.length);
  const both = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const x = i % width;
    for (let d = -Math.min(reach, x); d <= Math.min(reach, width - 1 - x); d++) {
      rows[i] = Math.max(rows[i], data[i + d]);
    }
  }
  for (let i = 0; i < data.length; i++) {
    const y = Math.floor(i / width);
    for (let d = -Math.min(reach, y); d <= Math.min(reach, height - 1 - y); d++) {
      both[i] = Math.max(both[i], rows[i + d * width]);
    }
  }
  return both;
}

/**
 * Return the part of a picture that contains the mask.
 * @param {Grey} picture
 * @param {Uint8Array} mask
 * @returns {Grey}
 */
function cropped({data, width}, mask) {
  let [left, right, top, bottom] = [Infinity, -1, Infinity, -1];
  mask.forEach((inked, i) => {
    if (!inked) return;
    left = Math.min(left, i % width);
    right = Math.max(right, i % width);
    top = Math.min(top, Math.floor(i / width));
    bottom = Math.max(bottom, Math.floor(i / width));
  });
  const [w, h] = [right - left + 1, bottom - top + 1];
  const part = new Uint8Array(w * h);
  for (let y = 0; y < h; y++) {
    const from = (top + y) * width + left;
    part.set(data.subarray(from, from + w), y * w);
  }
  return {data: part, width: w, height: h};
}

/**
 * Widen strokes to the width of a pen's on a form, if they are thinner relative to their size.
 * @param {Grey} strokes
 * @returns {Grey}
 */
function thickened(strokes) {
  const {data, width, height} = strokes;
  let [area, edge] = [0, 0];
  for (let i = 0; i < data.length; i++) {
    const inked = data[i] > 127;
    area += Number(inked);
    if (i >= width && inked !== data[i - width] > 127) edge++;
    if (i % width && inked !== data[i - 1] > 127) edge++;
  }
  if (!edge) return strokes;
  const wide = ((2 * area) / edge) * 1.27;
  const grow = Math.round((THIN * Math.max(width, height) - wide) / 2);
  if (grow < 1) return strokes;
  const [w, h] = [width + 2 * grow, height + 2 * grow];
  const padded = new Uint8Array(w * h);
  for (let y = 0; y < height; y++) {
    padded.set(data.subarray(y * width, (y + 1) * width), (y + grow) * w + grow);
  }
  return {data: spread(padded, w, h, Math.min(grow, 40)), width: w, height: h};
}

/**
 * Scale strokes to a longer side of `box` pixels, and place their centre of mass in the middle.
 * @param {Grey} strokes
 * @param {number} box
 * @param {number} side
 */
function setInk(strokes, box, side) {
  const scale = box / Math.max(strokes.width, strokes.height);
  const w = Math.max(1, Math.round(strokes.width * scale));
  const h = Math.max(1, Math.round(strokes.height * scale));
  const small = resized(strokes, w, h);
  const top = largest(small);
  if (top > 0) small.forEach((value, i) => (small[i] = (value * 255) / Math.max(top, 64)));
  let [mass, down, across] = [0, 0, 0];
  small.forEach((value, i) => {
    mass += value;
    down += Math.floor(i / w) * value;
    across += (i % w) * value;
  });
  mass = Math.max(mass, 1e-9);
  const row = clamp(Math.round((side - 1) / 2 - down / mass), 0, side - h);
  const column = clamp(Math.round((side - 1) / 2 - across / mass), 0, side - w);
  const canvas = new Uint8Array(side * side);
  small.forEach((value, i) => {
    canvas[(row + Math.floor(i / w)) * side + column + (i % w)] = Math.round(clamp(value, 0, 255));
  });
  return canvas;
}

/** @type {(value: number, low: number, high: number) => number} */
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/**
 * Resize a picture with Lanczos' kernel.
 * @param {Grey} picture
 * @param {number} w
 * @param {number} h
 */
function resized({data, width, height}, w, h) {
  const [columns, rows] = [taps(width, w), taps(height, h)];
  const wide = new Float64Array(height * w);
  for (let y = 0; y < height; y++) {
    columns.forEach(({first, weights}, x) => {
      const line = y * width + first;
      const sum = weights.reduce((total, weight, i) => total + weight * data[line + i], 0);
      wide[y * w + x] = clamp(Math.round(sum), 0, 255);
    });
  }
  const small = new Float64Array(h * w);
  rows.forEach(({first, weights}, y) => {
    for (let x = 0; x < w; x++) {
      const sum = weights.reduce((total, weight, i) => total + weight * wide[(first + i) * w + x], 0);
      small[y * w + x] = clamp(Math.round(sum), 0, 255);
    }
  });
  return small;
}

/**
 * Return for each new pixel the first old pixel that contributes, and the weights.
 * @param {number} from
 * @param {number} to
 */
function taps(from, to) {
  const scale = Math.max(from / to, 1);
  const reach = LOBES * scale;
  return Array.from({length: to}, (_, i) => {
    const centre = ((i + 0.5) * from) / to;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = Array.from({length: end - first}, (_, j) =>
      lanczos((first + j - centre + 0.5) / scale),
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return {first, weights: weights.map((weight) => weight / total)};
  });
}

/** @param {number} x */
function lanczos(x) {
  if (Math.abs(x) >= LOBES) return 0;
  return sinc(x) * sinc(x / LOBES);
}

/** @type {(x: number) => number} */
const sinc = (x) => (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1);

/** @param {Grey} picture */
function border({data, width, height}) {
  return Float64Array.from(data).filter((_, i) => {
    const [y, x] = [Math.floor(i / width), i % width];
    return !y || !x || y === height - 1 || x === width - 1;
  });
}

/** @param {Float64Array} values */
function median(values) {
  const sorted = values.slice().sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** @param {ArrayLike<number>} values */
function largest(values) {
  let most = -Infinity;
  for (let i = 0; i < values.length; i++) most = Math.max(most, values[i]);
  return most;
}
