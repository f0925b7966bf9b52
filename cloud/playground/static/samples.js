// @ts-check
/** Classifies a sample as a device does: one look or two, the answer, and their costs. */

import {askCloud, CloudAway} from './cloud.js';

/** @typedef {import('./half.js').Run} Run */
/** @typedef {import('./cloud.js').CloudAnswer} CloudAnswer */
/** @typedef {import('./digits.js').Played} Played */
/** @typedef {{cloudLevel: () => number | null, secondOn: () => boolean, cloudAway: (reason: string) => void}} Settings */

export const HARDWARE = 'mcu-ble';

export class Samples {
  #half;
  #settings;

  /**
   * @param {import('./half.js').Half} half
   * @param {Settings} settings the page's settings, which are read for each sample
   */
  constructor(half, settings) {
    this.#half = half;
    this.#settings = settings;
  }

  /**
   * Joules of computing and sending looks, or of computing the first one if none is sent.
   * @param {Run} first
   * @param {Run[]} looks
   */
  energy(first, looks) {
    if (!looks.length) return this.#half.joules(first.level, null, HARDWARE);
    return looks.reduce((sum, {level, payload}) => sum + this.#half.joules(level, payload.length, HARDWARE), 0);
  }

  /**
   * Whether a second look with all channels is needed after the cloud's answer.
   * @param {Run} run
   * @param {CloudAnswer} answer
   */
  asksAgain(run, answer) {
    return this.#settings.secondOn() && this.#half.isUnsure(run.level, answer.probabilities);
  }

  /**
   * @param {Uint8Array} digit
   * @param {number} label
   * @param {number} at the device's level
   * @param {number | null} threshold least confidence at which the exit head answers; null: it is off
   * @returns {Promise<Played>}
   */
  play = async (digit, label, at, threshold) => {
    const run = this.#half.run(digit, at);
    const kept = threshold !== null && this.#half.isSure(run, threshold);
    const first = this.#first(run, label, kept);
    if (kept) {
      await new Promise((resolve) => setTimeout(resolve)); // lets the page handle events
      return first;
    }
    try {
      const answer = await this.#ask(run);
      const answered = {...first, ...this.#answered(answer), by: 'cloud'};
      return this.asksAgain(run, answer) ? await this.#again(digit, run, answered) : answered;
    } catch (error) {
      if (!(error instanceof CloudAway)) throw error;
      this.#settings.cloudAway(error.message);
      return first;
    }
  };

  /**
   * The result before the cloud has answered.
   * @param {Run} run
   * @param {number} label
   * @param {boolean} kept
   * @returns {Played}
   */
  #first(run, label, kept) {
    const joules = this.energy(run, kept ? [] : [run]);
    const fraction = this.#half.description.fractions[run.level];
    return {
      ...{label, answer: run.label, by: kept ? 'exit head' : 'exit head, cloud away', sure: run.sure},
      ...{bytes: kept ? 0 : run.payload.length, joules, fraction, cloud: null, ms: null},
    };
  }

  /**
   * Take the second look; if the cloud cannot be reached any more, the first answer counts.
   * @param {Uint8Array} digit
   * @param {Run} run the first look
   * @param {Played} first its result
   * @returns {Promise<Played>}
   */
  async #again(digit, run, first) {
    const full = this.#half.run(digit, this.#half.widest);
    const cost = {bytes: first.bytes + full.payload.length, joules: this.energy(run, [run, full])};
    try {
      const answer = this.#answered(await this.#ask(full));
      const fraction = this.#half.description.fractions[full.level];
      return {...first, ...cost, ...answer, by: 'cloud, second look', fraction, ms: (first.ms ?? 0) + answer.ms};
    } catch (error) {
      if (!(error instanceof CloudAway)) throw error;
      this.#settings.cloudAway(error.message);
      return {...first, ...cost};
    }
  }

  /** @param {Run} run */
  #ask(run) {
    return askCloud(this.#half.description.name, run, this.#settings.cloudLevel());
  }

  /** @param {CloudAnswer} answer */
  #answered({label, cloudLevel, ms}) {
    return {answer: label, cloud: this.#half.description.cloud_fractions[cloudLevel], ms};
  }
}
