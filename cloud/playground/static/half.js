// @ts-check
/** This browser's device half: runs a picture at a level and computes the values that are shown. */

import {exitProbabilities} from './device/exit.js';
import {load} from './device/taper.js';

const MODEL = 'mnist-binary';
const FOLDER = '/static/device';
const ONE = 2 ** 20; // a logit of 1 in the engine's fixed-point numbers
const RIVALS = 2; // all other labels count as so many of the next best (shared/model/exits.py)

/**
 * The description of a model, written by device.web (device/web/description.py).
 * @typedef {{title: string, compute_j: number[], exchange_j: number, byte_j: number}} Energy
 * @typedef {{name: string, version: string, classes: string[], fractions: number[], cloud_fractions: number[],
 *   macs: number[], sent_channels: number[], ask_below: number[][], energy: Record<string, Energy>,
 *   input: {height: number, width: number, channels: number},
 *   preprocessing: import('./prepare.js').Steps,
 *   exit: import('./device/exit.js').ExitHead & {threshold: number[]}}} Description
 */

/**
 * One picture after the device's stages. `margin` is the difference between the exit head's best and
 * next best logit, `sure` the same as a confidence; `stays` says whether the exit head may answer.
 * @typedef {{level: number, height: number, width: number, channels: number, raw: Uint8Array,
 *   payload: Uint8Array, encoding: string, label: number, probabilities: number[],
 *   margin: number, sure: number, stays: boolean}} Run
 */

/** The model of this page, ready to run. */
export class Half {
  /** @type {import('./device/taper.js').Device} */ #device;

  /**
   * @param {import('./device/taper.js').Device} device
   * @param {Description} description
   */
  constructor(device, description) {
    this.#device = device;
    this.description = description;
  }

  static async fetch() {
    const [engine, blob, description] = await Promise.all([
      fetch(`${FOLDER}/taper.wasm`),
      fetch(`${FOLDER}/${MODEL}.blob`).then((response) => response.arrayBuffer()),
      fetch(`${FOLDER}/${MODEL}.json`).then((response) => response.json()),
    ]);
    return new Half(await load(new Uint8Array(blob), engine), description);
  }

  get widest() {
    return this.description.fractions.length - 1;
  }

  /**
   * @param {Uint8Array} pixels
   * @param {number} level
   * @returns {Run}
   */
  run(pixels, level) {
    const sample = this.#device.run(pixels, level);
    const {exit} = this.description;
    const {payload, encoding} = sample.encode();
    const probabilities = exitProbabilities(exit, sample);
    const {label, margin, stays} = sample.exit ?? {label: 0, margin: 0n, stays: false};
    return {
      ...{level, height: sample.height, width: sample.width, channels: sample.channels},
      ...{raw: sample.raw(), payload, encoding, label, probabilities},
      ...{margin: Number(margin), stays},
      sure: 1 / (1 + RIVALS * Math.exp(-Number(margin) / (ONE * exit.temperature[level]))),
    };
  }

  /**
   * Whether the exit head answers at a threshold (shared/model/exits.py, margin_threshold).
   * @param {Run} run
   * @param {number} confidence
   */
  isSure({level, margin}, confidence) {
    if (confidence >= 1) return false;
    const logits = Math.log(RIVALS * confidence) - Math.log1p(-confidence);
    const least = Math.ceil(ONE * this.description.exit.temperature[level] * logits);
    return confidence * (1 + RIVALS) <= 1 || margin >= least;
  }

  /** Whether this model was measured with second looks at the widest level. */
  get looksTwice() {
    return this.description.ask_below.some((row) => row[this.widest] > 0);
  }

  /**
   * Whether a second look is needed after the cloud's answer (shared/model/looks.py, ask_table).
   * @param {number} level
   * @param {number[]} probabilities
   */
  isUnsure(level, probabilities) {
    const [best, next] = [...probabilities].sort((a, b) => b - a);
    return ONE * Math.log(best / next) < this.description.ask_below[level][this.widest];
  }

  /**
   * Joules of computing a level and of sending `bytes`; null: nothing is sent.
   * @param {number} level
   * @param {number | null} bytes
   * @param {string} hardware
   */
  joules(level, bytes, hardware) {
    const {compute_j, exchange_j, byte_j} = this.description.energy[hardware];
    return compute_j[level] + (bytes === null ? 0 : exchange_j + byte_j * bytes);
  }
}
