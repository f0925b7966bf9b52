// @ts-check
/** Draws the picture, the map of bits, the sizes and the answers. */

import {bitAt} from './device/exit.js';

const ACROSS = 8; // number of channels in a row of the map
const PERCENT = new Intl.NumberFormat('en', {style: 'percent', maximumFractionDigits: 1});
const WHOLE = new Intl.NumberFormat('en');

/**
 * @param {string} id
 * @returns {any} the element with this id
 */
export const element = (id) => document.getElementById(id);

/**
 * @param {string} id
 * @param {string} text
 */
export function write(id, text) {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

/** @type {(share: number) => string} */
export const percent = (share) => PERCENT.format(share);
/** @type {(count: number) => string} */
export const whole = (count) => WHOLE.format(count);

/**
 * Draw the network's input, with one pixel of the canvas for each of its pixels.
 * @param {HTMLCanvasElement} canvas
 * @param {Uint8Array} pixels
 */
export function showPicture(canvas, pixels) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const image = context.createImageData(canvas.width, canvas.height);
  pixels.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  context.putImageData(image, 0, 0);
}

/**
 * Draw the bits that are sent, channel by channel; channels that are not sent are grey.
 * @param {HTMLCanvasElement} canvas
 * @param {import('./half.js').Run} run
 * @param {number} all channels of the widest level
 */
export function showBits(canvas, run, all) {
  const {height, width, channels, raw} = run;
  canvas.width = ACROSS * (width + 1) - 1;
  canvas.height = Math.ceil(all / ACROSS) * (height + 1) - 1;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const style = getComputedStyle(canvas);
  const [one, zero, cut] = ['--one', '--zero', '--cut'].map((name) => style.getPropertyValue(name));
  let ones = 0;
  for (let channel = 0; channel < all; channel++) {
    const left = (channel % ACROSS) * (width + 1);
    const top = Math.floor(channel / ACROSS) * (height + 1);
    context.fillStyle = channel < channels ? zero : cut;
    context.fillRect(left, top, width, height);
    if (channel >= channels) continue;
    context.fillStyle = one;
    for (let pixel = 0; pixel < height * width; pixel++) {
      if (!bitAt(raw, pixel * channels + channel)) continue;
      ones++;
      context.fillRect(left + (pixel % width), top + Math.floor(pixel / width), 1, 1);
    }
  }
  const bits = height * width * channels;
  write('bits-text', `${channels} of ${all} channels leave: ${bits} bits, ${ones} of them 1`);
  canvas.setAttribute('aria-label', `Map of bits: ${channels} of ${all} channels, ${ones} of ${bits} bits are 1`);
}

/**
 * Draw the bars of payload and PNG, on the same scale.
 * @param {number} payload
 * @param {number} png
 */
export function showSizes(payload, png) {
  const most = Math.max(payload, png, 1);
  for (const [name, bytes] of Object.entries({payload, png})) {
    write(name, `${whole(bytes)} bytes`);
    element(`${name}-bar`).style.width = `${(100 * bytes) / most}%`;
  }
}

/**
 * Show one of the answers.
 * @param {string} id
 * @param {{label: number, probabilities: number[]} | null} answer null: there is none
 * @param {string[]} classes
 * @param {string} note
 */
export function showAnswer(id, answer, classes, note) {
  const card = element(id);
  card.classList.toggle('empty', !answer);
  write(`${id}-label`, answer ? classes[answer.label] : '–');
  write(`${id}-note`, note);
  const list = element(`${id}-bars`);
  if (!list.children.length) list.append(...classes.map((name) => bar(name)));
  classes.forEach((name, label) => {
    const share = answer?.probabilities[label] ?? 0;
    const item = list.children[label];
    item.firstElementChild.style.height = `${100 * share}%`;
    item.classList.toggle('best', answer?.label === label);
    item.lastElementChild.textContent = answer ? `${name}: ${percent(share)}` : `${name}: unknown`;
  });
}

/** @param {string} name */
function bar(name) {
  const [item, fill, letter, words] = ['li', 'i', 'b', 'span'].map((tag) => document.createElement(tag));
  letter.textContent = name;
  letter.setAttribute('aria-hidden', 'true');
  words.className = 'unseen';
  item.append(fill, letter, words);
  return item;
}
