// @ts-check
/** The drawing pad, for finger, mouse or arrow keys, with white strokes on black as in MNIST. */

const WIDTH = 20; // width of a stroke in the pad's pixels
const STEP = 10; // distance of a press of an arrow key

export class Pad {
  /** @type {CanvasRenderingContext2D} */ #context;
  /** @type {{x: number, y: number} | null} */ #last = null;
  #pen = {x: 0, y: 0};
  #penDown = false;
  #shown = false; // whether a picture is shown, which the first stroke replaces

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} cursor shows the pen while keys move it
   * @param {() => void} changed
   */
  constructor(canvas, cursor, changed) {
    this.canvas = canvas;
    this.cursor = cursor;
    this.changed = changed;
    this.#context = /** @type {CanvasRenderingContext2D} */ (
      canvas.getContext('2d', {willReadFrequently: true})
    );
    this.#pen = {x: canvas.width / 2, y: canvas.height / 2};
    canvas.addEventListener('pointerdown', (event) => this.#down(event));
    canvas.addEventListener('pointermove', (event) => this.#move(event));
    for (const name of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(name, () => (this.#last = null));
    }
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('focus', () => this.#showPen());
    canvas.addEventListener('blur', () => (cursor.hidden = true));
    this.clear();
  }

  /** Return the drawing's pixels. */
  pixels() {
    return this.#context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  clear() {
    this.#shown = false;
    this.#context.fillStyle = '#000';
    this.#context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /**
   * Show a picture instead of a drawing.
   * @param {CanvasImageSource} source
   * @param {boolean} smooth
   */
  show(source, smooth) {
    this.clear();
    this.#context.imageSmoothingEnabled = smooth;
    this.#context.drawImage(source, 0, 0, this.canvas.width, this.canvas.height);
    this.#shown = true;
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#begin();
    this.#last = this.#place(event);
    this.#line(this.#last, this.#last);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.#last) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) {
      const to = this.#place(one);
      this.#line(this.#last, to);
      this.#last = to;
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (event.key === ' ') {
      this.#penDown = !this.#penDown;
      if (this.#penDown) {
        this.#begin();
        this.#line(this.#pen, this.#pen);
      }
    } else if (step) {
      const to = {
        x: Math.min(Math.max(this.#pen.x + STEP * step[0], 0), this.canvas.width),
        y: Math.min(Math.max(this.#pen.y + STEP * step[1], 0), this.canvas.height),
      };
      if (this.#penDown) this.#line(this.#pen, to);
      this.#pen = to;
    } else {
      return;
    }
    event.preventDefault();
    this.#showPen();
  }

  #begin() {
    if (this.#shown) this.clear();
  }

  #showPen() {
    this.cursor.hidden = false;
    this.cursor.classList.toggle('down', this.#penDown);
    this.cursor.style.left = `${(100 * this.#pen.x) / this.canvas.width}%`;
    this.cursor.style.top = `${(100 * this.#pen.y) / this.canvas.height}%`;
  }

  /** @param {PointerEvent} event */
  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * this.canvas.width) / box.width,
      y: ((event.clientY - box.top) * this.canvas.height) / box.height,
    };
  }

  /**
   * @param {{x: number, y: number}} from
   * @param {{x: number, y: number}} to
   */
  #line(from, to) {
    const context = this.#context;
    context.strokeStyle = '#fff';
    context.lineWidth = WIDTH;
    context.lineCap = context.lineJoin = 'round';
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
    this.changed();
  }
}
