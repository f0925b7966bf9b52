// @ts-check
/**
 * The device half in the browser or in Node: computes a picture's bits and the exit head's answer.
 *
 *     const device = await load(blob, await fetch('taper.wasm'));
 *     const sample = device.run(context.getImageData(0, 0, 28, 28), 2);
 *     const {encoding, payload} = sample.encode();
 *
 * `blob` is a model for the C engine, written by `python -m device.web`.
 */

const STATUS = [
  'ok',
  'the memory is not aligned',
  'this is no model, or a damaged one',
  'the model has no such level',
  'there is not enough memory',
  'the model has no exit head',
];
const ENCODINGS = {1: 'raw', 3: 'context'};

/**
 * The engine for `load`: a response of `taper.wasm`, its bytes, or the compiled module.
 * @typedef {Response | BufferSource | WebAssembly.Module} EngineSource
 */

/**
 * A picture: RGBA from a canvas, or the network's input bytes with the colours of a pixel together.
 * @typedef {{data: Uint8ClampedArray, width: number, height: number} | Uint8Array} Picture
 */

/**
 * The exit head's answer: the class; its logit minus the next best one, in units of 1/1048576; and
 * whether this is enough to answer the sample on the device.
 * @typedef {{label: number, margin: bigint, stays: boolean}} ExitAnswer
 */

/** A model cannot be loaded, or a picture has the wrong shape. */
export class TaperError extends Error {}

/**
 * Open a model.
 * @param {Uint8Array} blob
 * @param {EngineSource} engine
 * @returns {Promise<Device>} rejects with `TaperError` if the blob cannot be used
 */
export async function load(blob, engine) {
  const instance = await WebAssembly.instantiate(await compiled(engine), {});
  return new Device(/** @type {any} */ (instance.exports), blob);
}

/**
 * @param {EngineSource} engine
 * @returns {Promise<WebAssembly.Module>}
 */
async function compiled(engine) {
  if (engine instanceof WebAssembly.Module) return engine;
  if (typeof Response !== 'undefined' && engine instanceof Response) {
    return WebAssembly.compile(await engine.arrayBuffer());
  }
  return WebAssembly.compile(/** @type {BufferSource} */ (engine));
}

/** A model that is ready to run. */
export class Device {
  /** @type {any} */ #engine;
  #latest = 0;

  /**
   * @param {any} engine the module's exports
   * @param {Uint8Array} blob
   */
  constructor(engine, blob) {
    this.#engine = engine;
    const at = engine.place(blob.length);
    if (!at) throw new TaperError(STATUS[4]);
    new Uint8Array(engine.memory.buffer).set(blob, at);
    const status = engine.open(blob.length);
    if (status) throw new TaperError(STATUS[status]);
    /** Shape of an input picture. */
    this.height = /** @type {number} */ (engine.height());
    this.width = /** @type {number} */ (engine.width());
    this.channels = /** @type {number} */ (engine.channels());
    this.classes = /** @type {number} */ (engine.classes());
    /** Number of the model's levels. */
    this.levels = /** @type {number} */ (engine.levels());
    this.hasExit = Boolean(engine.has_exit());
  }

  /**
   * Run the device's stages at level 0 (the narrowest) to `levels - 1`.
   * @param {Picture} imageData
   * @param {number} level
   * @returns {Sample} usable until the next call of `run`
   */
  run(imageData, level) {
    const bytes = imageData instanceof Uint8Array ? imageData : this.#pixels(imageData);
    const size = this.height * this.width * this.channels;
    if (bytes.length !== size) {
      throw new TaperError(`picture: ${bytes.length} bytes are not allowed; give ${size}`);
    }
    if (!Number.isInteger(level) || level < 0) throw new TaperError(STATUS[3]);
    const engine = this.#engine;
    new Uint8Array(engine.memory.buffer).set(bytes, engine.picture());
    const status = engine.run(level);
    if (status) throw new TaperError(STATUS[status]);
    const number = ++this.#latest;
    return new Sample(engine, this.hasExit, () => number === this.#latest);
  }

  /**
   * Convert RGBA to the network's bytes; grey has the weights of ITU-R BT.601 in Pillow's rounding.
   * @param {{data: Uint8ClampedArray, width: number, height: number}} image
   * @returns {Uint8Array}
   */
  #pixels({data, width, height}) {
    if (width !== this.width || height !== this.height) {
      throw new TaperError(
        `picture: ${width}x${height} is not allowed; give ${this.width}x${this.height}`,
      );
    }
    const bytes = new Uint8Array(width * height * this.channels);
    for (let pixel = 0; pixel < width * height; pixel++) {
      const [red, green, blue] = data.subarray(4 * pixel, 4 * pixel + 3);
      if (this.channels === 1) {
        bytes[pixel] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
      } else {
        bytes.set([red, green, blue], 3 * pixel);
      }
    }
    return bytes;
  }
}

/** One picture at one level, after the device's stages. */
export class Sample {
  /** @type {any} */ #engine;
  /** @type {() => boolean} */ #current;

  /**
   * @param {any} engine the module's exports
   * @param {boolean} hasExit
   * @param {() => boolean} current whether the engine still holds this sample
   */
  constructor(engine, hasExit, current) {
    this.#engine = engine;
    this.#current = current;
    /** Index of the level in the whole model, which is sent to the server. */
    this.level = /** @type {number} */ (engine.level_number());
    /** Shape of the map of bits. */
    this.height = /** @type {number} */ (engine.map_height());
    this.width = /** @type {number} */ (engine.map_width());
    this.channels = /** @type {number} */ (engine.map_channels());
    /** The exit head's answer, or null if the model has no exit head. @type {ExitAnswer | null} */
    this.exit = hasExit
      ? {
          label: engine.exit_label(),
          margin: engine.exit_margin(),
          stays: Boolean(engine.exit_stays()),
        }
      : null;
  }

  /**
   * Return the uncoded bits: pixel by pixel, channels of a pixel together, least significant first.
   * @returns {Uint8Array}
   */
  raw() {
    return this.#written(this.#holding().raw());
  }

  /**
   * Return the payload to send, in the smaller of the two encodings.
   * @returns {{encoding: 'raw' | 'context', payload: Uint8Array}}
   */
  encode() {
    const engine = this.#holding();
    const payload = this.#written(engine.encode());
    return {encoding: /** @type {any} */ (ENCODINGS)[engine.encoding()], payload};
  }

  /**
   * Return the bytes of an InferRequest (protos/split/v1/split.proto) to send by gRPC or MQTT.
   * @param {number} id
   * @returns {Uint8Array}
   */
  request(id) {
    return this.#written(this.#holding().request(id));
  }

  /** @returns {any} */
  #holding() {
    if (!this.#current()) throw new TaperError('sample: another picture has been run since');
    return this.#engine;
  }

  /**
   * @param {number} size
   * @returns {Uint8Array}
   */
  #written(size) {
    const engine = this.#engine;
    return new Uint8Array(engine.memory.buffer, engine.output(), size).slice();
  }
}
