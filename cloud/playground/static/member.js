// @ts-check
/**
 * This browser as a device of a fleet, over MQTT 5 and WebSockets. It publishes birth and last will,
 * applies and reports the desired state, sends numbered telemetry until it is confirmed, and answers
 * commands.
 */

import {Ledger} from './ledger.js';

const LIBRARY = /** @type {string} */ ('./device/mqtt.js');
const RETRY_MS = 2000;
const DAY_S = 86400;
const PROTOCOL = 1;
const SOFTWARE = 'taper playground';

/**
 * The totals of a period, with the fields of Telemetry in protos/fleet/v1/fleet.proto.
 * @typedef {Record<string, number | boolean | string>} Period
 */

/**
 * The part of the page that classifies: it applies settings and reports its work.
 * @typedef {{describe: () => {levels: number[], exit_head: boolean, model_version: string},
 *   settings: () => Record<string, any>,
 *   apply: (settings: Record<string, any>) => {field: string, reason: string}[],
 *   measure: () => Period, stop: () => void}} Worker
 */

export class Member {
  #version = 0;
  /** @type {{field: string, reason: string}[]} */ #refused = [];
  /** @type {any} */ #client = null;
  #timer = 0;
  #left = false;
  #sent = 0;
  /** @type {(value?: unknown) => void} */ #end = () => {};
  /** @type {Worker} */ #worker = IDLE;

  /**
   * @param {string} url of the broker's WebSockets
   * @param {() => Worker} hire begins to work
   * @param {(state: {connected: boolean, device: string, version: number, sent: number}) => void} changed
   */
  constructor(url, hire, changed) {
    this.url = url;
    this.hire = hire;
    this.changed = changed;
    this.ledger = new Ledger(window.localStorage);
  }

  get enrolled() {
    return this.ledger.entry !== null;
  }

  /**
   * Exchange a one-time code for an identity of this browser's own.
   * @param {string} code
   */
  async enrol(code) {
    const response = await fetch('/enrol', {method: 'POST', body: JSON.stringify({code})});
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    this.ledger.begin(answer);
  }

  /** Work, connect, and stay connected until `leave`. */
  async live() {
    this.mqtt = (await import(LIBRARY)).default;
    this.#left = false;
    this.#worker = this.hire();
    const {desired} = this.#entry;
    if (desired) this.#apply(JSON.parse(desired));
    this.#schedule();
    this.#connect();
    await new Promise((resolve) => (this.#end = resolve));
  }

  /** Leave the fleet in an orderly way, and delete this identity. */
  async leave() {
    this.#left = true;
    window.clearTimeout(this.#timer);
    if (this.#client?.connected) {
      await this.#client.publishAsync(this.#topic('death'), this.#death('left'), RETAINED);
    }
    this.#client?.end(true);
    this.#worker.stop();
    this.ledger.forget();
    this.#version = 0;
    this.#show(false);
    this.#end();
  }

  get #entry() {
    const {entry} = this.ledger;
    if (!entry) throw new Error('member: not enrolled');
    return entry;
  }

  /** @param {string} kind */
  #topic(kind) {
    const {fleet, device} = this.#entry;
    return `taper/v1/${fleet}/${device}/${kind}`;
  }

  #connect() {
    this.ledger.nextSession();
    const {user, password} = this.#entry;
    const client = this.mqtt.connect(this.url, {
      ...{protocolVersion: 5, clientId: user, username: user, password, clean: false},
      ...{keepalive: 30, reconnectPeriod: 0, timerVariant: 'native', queueQoSZero: false},
      properties: {sessionExpiryInterval: DAY_S},
      will: {topic: this.#topic('death'), payload: this.#death('connection lost'), ...RETAINED},
    });
    this.#client = client;
    client.on('connect', () => this.#greet(client));
    client.on('message', (/** @type {string} */ topic, /** @type {Uint8Array} */ payload) =>
      this.#receive(topic, new TextDecoder().decode(payload)),
    );
    client.on('error', () => client.end(true));
    client.once('close', () => {
      this.#show(false);
      if (!this.#left) window.setTimeout(() => this.#left || this.#connect(), RETRY_MS);
    });
  }

  /** @param {any} client newly connected */
  async #greet(client) {
    try {
      await client.publishAsync(this.#topic('birth'), JSON.stringify(this.#birth()), RETAINED);
      await client.subscribeAsync([this.#topic('desired'), this.#topic('command')], {qos: 1});
      this.#report();
      this.#entry.unconfirmed.forEach((row) => this.#send(row));
      this.#show(true);
    } catch {
      client.end(true); // the connection was closed meanwhile: connect again
    }
  }

  #birth() {
    const {device, session, epoch, nextSequence} = this.#entry;
    const {levels, exit_head} = this.#worker.describe();
    const numbers = {session, epoch, next_sequence: nextSequence, unix_s: Date.now() / 1000};
    return {device, protocol: PROTOCOL, ...numbers, levels, exit_head, hardware: 'browser', software: SOFTWARE};
  }

  /** @param {string} reason */
  #death(reason) {
    const {device, session, epoch} = this.#entry;
    return JSON.stringify({device, session, epoch, reason});
  }

  /**
   * @param {string} topic
   * @param {string} payload
   */
  #receive(topic, payload) {
    const message = parsed(payload);
    if (!message) return;
    if (topic.endsWith('/command')) {
      this.#obey(message);
    } else if (Number.isInteger(message.version)) {
      const isOld = message.version < this.#version;
      // Of two desired states with an equal version, the later message counts, as for an agent.
      if (!isOld && payload !== this.#entry.desired) {
        this.#apply(message);
        this.ledger.keepDesired(payload);
        this.#schedule();
      }
      this.#report();
    }
  }

  /** @param {{version: number, settings?: Record<string, any>}} desired */
  #apply({version, settings}) {
    this.#version = version;
    this.#refused = this.#worker.apply(settings ?? {});
  }

  #report() {
    const {device, session, epoch} = this.#entry;
    const {model_version} = this.#worker.describe();
    const reported = {
      ...{device, session, epoch, version: this.#version, settings: this.#worker.settings()},
      ...{refused: this.#refused, model_version, unix_s: Date.now() / 1000},
    };
    this.#post('reported', reported, RETAINED);
    this.#show(true);
  }

  /** @param {{id: string, name: string, arguments?: Record<string, string>}} command */
  #obey({id, name, arguments: given}) {
    const {device} = this.#entry;
    if (name === 'ping') {
      this.#post('result', {device, id, ok: true});
    } else if (name === 'measure') {
      this.#measure();
      this.#post('result', {device, id, ok: true});
    } else if (name === 'resend') {
      this.#post('result', {device, id, ok: true, values: this.#resend(given ?? {})});
    } else {
      this.#post('result', {device, id, ok: false, error: `${name}: is unknown to a browser`});
    }
  }

  /** @param {Record<string, string>} given the first and last sequence number to send again */
  #resend({first, last}) {
    const {unconfirmed, nextSequence} = this.#entry;
    const rows = unconfirmed.filter(([number]) => number >= Number(first) && number <= Number(last));
    rows.forEach((row) => this.#send(row));
    const oldest = String(unconfirmed[0]?.[0] ?? nextSequence);
    return {sent: String(rows.length), last, oldest};
  }

  /** Send telemetry now and every `telemetry_s` from now on. */
  #schedule() {
    window.clearTimeout(this.#timer);
    const seconds = this.#worker.settings().telemetry_s;
    this.#timer = window.setTimeout(() => {
      this.#measure();
      this.#schedule();
    }, 1000 * seconds);
  }

  #measure() {
    const {device, session, epoch} = this.#entry;
    const fixed = {device, session, epoch, unix_s: Date.now() / 1000, reported_version: this.#version};
    const period = this.#worker.measure();
    this.#send(this.ledger.number((sequence, dropped) => ({...fixed, sequence, dropped, ...period})));
  }

  /** @param {[number, string]} row */
  async #send([sequence, payload]) {
    if (!this.#client?.connected) return;
    try {
      await this.#client.publishAsync(this.#topic('telemetry'), payload, {qos: 1});
    } catch {
      return; // it is sent again after the next connection
    }
    this.ledger.confirm(sequence);
    this.#sent += 1;
    this.#show(true);
  }

  /**
   * @param {string} kind
   * @param {object} message
   * @param {object} options
   */
  #post(kind, message, options = {qos: 1}) {
    if (!this.#client?.connected) return;
    this.#client.publishAsync(this.#topic(kind), JSON.stringify(message), options).catch(() => {});
  }

  /** @param {boolean} connected */
  #show(connected) {
    const device = this.ledger.entry?.device ?? '';
    this.changed({connected, device, version: this.#version, sent: this.#sent});
  }
}

/** The worker before `hire`, which does nothing. @type {Worker} */
const IDLE = {
  describe: () => ({levels: [], exit_head: false, model_version: ''}),
  settings: () => ({}),
  apply: () => [],
  measure: () => ({}),
  stop: () => {},
};
const RETAINED = {qos: 1, retain: true};

/** @param {string} payload */
function parsed(payload) {
  try {
    return JSON.parse(payload);
  } catch {
    return null;
  }
}
