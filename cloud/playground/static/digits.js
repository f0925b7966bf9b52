// @ts-check
/** The test digits: run with the present settings, and shown as curves and as a table. */

const COUNT = 200;
const SIDE = 28;
const COLUMNS = 'digit,label,answer,answered_by,right,sent_bytes,energy_j,device_fraction,cloud_fraction,round_trip_ms';

/** @typedef {{pixels: Uint8Array, label: number}} Digit */

/**
 * The result of one digit. `sure` is the exit head's confidence; if nothing was sent, `bytes` is 0
 * and `cloud` is null.
 * @typedef {{label: number, answer: number, sure: number, by: string, bytes: number, joules: number,
 *   fraction: number, cloud: number | null, ms: number | null}} Played
 */

/** @type {Promise<Digit[]> | null} */
let fetched = null;

/** Return all test digits, which are fetched at the first call. */
export function testDigits() {
  fetched ??= fetchDigits();
  return fetched;
}

async function fetchDigits() {
  const bytes = new Uint8Array(await (await fetch('/digits')).arrayBuffer());
  const size = SIDE * SIDE;
  return Array.from({length: COUNT}, (_, i) => ({
    label: bytes[i],
    pixels: bytes.slice(COUNT + i * size, COUNT + (i + 1) * size),
  }));
}

/** The results so far and their totals. */
export class Strip {
  /** @type {Played[]} */ rows = [];

  get accuracy() {
    return this.rows.filter(({label, answer}) => label === answer).length / Math.max(this.rows.length, 1);
  }

  get bytes() {
    return this.rows.reduce((sum, row) => sum + row.bytes, 0);
  }

  get joules() {
    return this.rows.reduce((sum, row) => sum + row.joules, 0);
  }

  csv() {
    const lines = this.rows.map((row, i) => {
      const right = Number(row.label === row.answer);
      const end = [row.joules.toPrecision(6), row.fraction, row.cloud ?? '', row.ms?.toFixed(1) ?? ''];
      return [i, row.label, row.answer, row.by, right, row.bytes, ...end].join(',');
    });
    return [COLUMNS, ...lines, ''].join('\n');
  }
}

/**
 * Draw a curve over the digits so far, from 0 at the bottom to `most` at the top.
 * @param {SVGPolylineElement} line
 * @param {number[]} values
 * @param {number} most
 */
export function drawCurve(line, values, most) {
  const points = values.map((value, i) => {
    const x = (100 * (i + 1)) / COUNT;
    return `${x.toFixed(1)},${(40 - (38 * value) / Math.max(most, 1e-12)).toFixed(2)}`;
  });
  line.setAttribute('points', points.join(' '));
}

/** @param {number[]} values */
export function running(values) {
  let sum = 0;
  return values.map((value) => (sum += value));
}
