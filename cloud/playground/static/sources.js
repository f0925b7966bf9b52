// @ts-check
/** Pictures from a file or the camera, as the pixels of a canvas. */

const LARGEST = 480; // most pixels on the shorter side of a picture in which ink is searched
const FILMED = 280; // pixels on a side of the camera's pictures, fewer for speed
const PAUSE_MS = 150; // between two pictures of the camera

/**
 * Decode a picture file.
 * @param {Blob} file
 * @returns {Promise<ImageData>} of the same size or smaller; rejects if it is not a picture
 */
export async function readFile(file) {
  const bitmap = await createImageBitmap(file, {colorSpaceConversion: 'none'});
  const scale = Math.min(1, LARGEST / Math.min(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = canvasContext(width, height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** The camera: pictures of its middle square while it is on. */
export class Camera {
  /** @type {MediaStream | null} */ #stream = null;
  #timer = 0;

  /**
   * @param {HTMLVideoElement} video
   * @param {(picture: ImageData) => void} taken
   */
  constructor(video, taken) {
    this.video = video;
    this.taken = taken;
  }

  get on() {
    return this.#stream !== null;
  }

  /** Ask for the camera; rejects with a message for the user. */
  async start() {
    if (!navigator.mediaDevices) {
      throw new Error(
        'Browsers give a page no camera over plain HTTP from another machine: start the playground with --self-signed.',
      );
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
    } catch (error) {
      throw new Error(`There is no camera for this page (${/** @type {Error} */ (error).name}).`);
    }
    this.video.srcObject = this.#stream;
    await this.video.play();
    this.#film();
  }

  stop() {
    window.clearTimeout(this.#timer);
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.video.srcObject = null;
  }

  /** Take a picture now, and the next one after this one has been processed. */
  #film() {
    this.#take();
    this.#timer = window.setTimeout(() => this.#film(), PAUSE_MS);
  }

  #take() {
    const {videoWidth, videoHeight} = this.video;
    const side = Math.min(videoWidth, videoHeight);
    if (!side) return;
    const size = Math.min(side, FILMED);
    const context = canvasContext(size, size);
    const [left, top] = [(videoWidth - side) / 2, (videoHeight - side) / 2];
    context.drawImage(this.video, left, top, side, side, 0, 0, size, size);
    this.taken(context.getImageData(0, 0, size, size));
  }
}

/**
 * @param {number} width
 * @param {number} height
 */
function canvasContext(width, height) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', {willReadFrequently: true}));
}
