// @ts-check
/** The work of a device of a fleet: classifies test digits at the rate and settings of the fleet. */

import {testDigits} from './digits.js';

/** @typedef {import('./digits.js').Played} Played */

const DEFAULTS = {fraction: '0.3', rate_per_s: 1, telemetry_s: 10};

export class Work {
  #settings = {...DEFAULTS};
  #exitThreshold = -1; // below 0: the model's own
  /** @type {Played[]} */ #done = [];
  #began = Date.now();
  #next = 0;
  #failed = 0;
  #stopped = false;
  /** @type {{level: number, charging: boolean} | null} */ #battery = null;

  /**
   * @param {import('./half.js').Half} half
   * @param {(pixels: Uint8Array, label: number, level: number, threshold: number | null) => Promise<Played>} play
   * @param {(level: number) => void} steered called with the device level whenever it is set
   */
  constructor(half, play, steered) {
    this.half = half;
    this.play = play;
    this.steered = steered;
    void /** @type {any} */ (navigator).getBattery?.().then((/** @type {any} */ battery) => (this.#battery = battery));
    void this.#run();
  }

  stop() {
    this.#stopped = true;
  }

  describe() {
    const {fractions, version} = this.half.description;
    return {levels: fractions, exit_head: true, model_version: version};
  }

  /** The present settings. */
  settings() {
    return {...this.#settings, exit_threshold: this.#threshold(), model: this.half.description.name};
  }

  /**
   * Apply the settings that can be applied; return the others with the reasons.
   * @param {Record<string, any>} wanted
   */
  apply(wanted) {
    const refused = [];
    const {name} = this.half.description;
    const {fraction = DEFAULTS.fraction, rate_per_s = DEFAULTS.rate_per_s, telemetry_s = DEFAULTS.telemetry_s} = wanted;
    this.#settings = {...this.#settings, rate_per_s, telemetry_s};
    this.#exitThreshold = wanted.exit_threshold ?? -1;
    if (Number(fraction) > 0 && Number(fraction) <= 1) {
      this.#settings.fraction = String(fraction);
      this.steered(this.level);
    } else {
      refused.push({field: 'fraction', reason: 'a browser takes numbers, it has no policies'});
    }
    if (wanted.model && wanted.model !== name) {
      refused.push({field: 'model', reason: `this page has ${name} alone`});
    }
    if (wanted.audit_rate) refused.push({field: 'audit_rate', reason: 'a browser does not audit'});
    return refused;
  }

  /** The smallest level whose fraction is at least the present one. */
  get level() {
    const {fractions} = this.half.description;
    const found = fractions.findIndex((level) => level >= Number(this.#settings.fraction) - 1e-9);
    return found < 0 ? fractions.length - 1 : found;
  }

  /** Return the totals of the period that ends now, and begin the next one. */
  measure() {
    const rows = this.#done;
    const period_s = (Date.now() - this.#began) / 1000;
    this.#done = [];
    this.#began = Date.now();
    const cloud = rows.filter((row) => row.cloud !== null);
    const waits = rows.map((row) => row.ms ?? 0);
    const failed = this.#failed;
    this.#failed = 0;
    return {
      ...{period_s, battery: this.#battery?.level ?? 1, plugged: this.#battery?.charging ?? true},
      fraction: this.half.description.fractions[this.level],
      cloud_fraction: mean(cloud.map((row) => row.cloud ?? 0)),
      ...{answered_device: rows.length - cloud.length, answered_cloud: cloud.length, failed},
      ...{labelled: rows.length, right: rows.filter((row) => row.label === row.answer).length},
      payload_bytes: sum(rows.map((row) => row.bytes)),
      energy_j: sum(rows.map((row) => row.joules)),
      ...{latency_ms: mean(waits), latency_max_ms: Math.max(0, ...waits)},
      ...{exits_asked: rows.length, exit_confidence: mean(rows.map((row) => row.sure))},
      ...{model: this.half.description.name, model_version: this.half.description.version},
    };
  }

  #threshold() {
    return this.#exitThreshold < 0 ? this.half.description.exit.threshold[this.level] : this.#exitThreshold;
  }

  async #run() {
    const digits = await testDigits();
    while (!this.#stopped) {
      const {rate_per_s: rate} = this.#settings;
      await new Promise((resolve) => setTimeout(resolve, rate ? 1000 / rate : 1000));
      if (!rate) continue;
      const {pixels, label} = digits[this.#next % digits.length];
      this.#next += 1;
      try {
        this.#done.push(await this.play(pixels, label, this.level, this.#threshold()));
      } catch {
        this.#failed += 1;
      }
    }
  }
}

/** @type {(values: number[]) => number} */
const sum = (values) => values.reduce((total, value) => total + value, 0);
/** @type {(values: number[]) => number} */
const mean = (values) => (values.length ? sum(values) / values.length : 0);
