// @ts-check
/**
 * The state that this browser keeps as a device of a fleet (docs/fleet.md): its identity, session,
 * next sequence number, unconfirmed telemetry, and the last desired state.
 */

const KEY = 'taper-member';
const KEPT = 200;

/** @typedef {{fleet: string, device: string, user: string, password: string}} Identity */
/**
 * @typedef {Identity & {epoch: string, session: number, nextSequence: number, dropped: number,
 *   unconfirmed: [number, string][], desired: string | null}} Entry
 */

export class Ledger {
  /** @param {Storage} storage */
  constructor(storage) {
    this.storage = storage;
    /** @type {Entry | null} */
    this.entry = JSON.parse(storage.getItem(KEY) ?? 'null');
  }

  /** @param {Identity} identity with which a new epoch begins */
  begin(identity) {
    const bytes = crypto.getRandomValues(new Uint8Array(12));
    const epoch = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const empty = {session: 0, nextSequence: 1, dropped: 0, unconfirmed: [], desired: null};
    this.#write({...identity, epoch, ...empty});
  }

  /** Count a connection. */
  nextSession() {
    const entry = this.#known();
    this.#write({...entry, session: entry.session + 1});
  }

  /** @param {string} payload a desired state, as it came */
  keepDesired(payload) {
    this.#write({...this.#known(), desired: payload});
  }

  /**
   * Number telemetry and keep it until it is confirmed; if there is no room, drop the oldest.
   * @param {(sequence: number, dropped: number) => object} made
   * @returns {[number, string]}
   */
  number(made) {
    const entry = this.#known();
    const sequence = entry.nextSequence;
    /** @type {[number, string]} */
    const row = [sequence, JSON.stringify(made(sequence, entry.dropped))];
    const unconfirmed = [...entry.unconfirmed, row];
    const dropped = Math.max(unconfirmed.length - KEPT, 0);
    this.#write({...entry, nextSequence: sequence + 1, dropped, unconfirmed: unconfirmed.slice(-KEPT)});
    return row;
  }

  /** @param {number} sequence */
  confirm(sequence) {
    const entry = this.#known();
    this.#write({...entry, unconfirmed: entry.unconfirmed.filter(([number]) => number !== sequence)});
  }

  forget() {
    this.storage.removeItem(KEY);
    this.entry = null;
  }

  #known() {
    if (!this.entry) throw new Error('ledger: this browser is no member');
    return this.entry;
  }

  /** @param {Entry} entry */
  #write(entry) {
    this.storage.setItem(KEY, JSON.stringify(entry));
    this.entry = entry;
  }
}
