// @ts-check
/**
 * Computes the exit head's probabilities, to show them. The engine itself decides by the margin only.
 */

/**
 * The exit head of a model. `weights` has the packed bits of each class, `coefficients` a factor of
 * each channel; `scale` and `bias` turn sums into logits, by level; `temperature` calibrates them.
 * @typedef {{weights: string[], coefficients: number[], scale: number[][], bias: number[][],
 *   temperature: number[]}} ExitHead
 */

/**
 * Probability of each class, from the bits of `Sample.raw()`.
 * @param {ExitHead} head
 * @param {import('./taper.js').Sample} sample
 * @returns {number[]}
 */
export function exitProbabilities(head, sample) {
  const {level, channels} = sample;
  const bits = sample.raw();
  const logits = head.weights.map((text, label) => {
    const weights = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const sum = weightedSum(bits, weights, sample, head.coefficients);
    return sum * head.scale[level][label] + head.bias[level][label];
  });
  return softmax(logits.map((logit) => logit / head.temperature[level]));
}

/**
 * Return the sum over all bits of coefficient * (+1 if both agree, -1 if not).
 * @param {Uint8Array} bits (pixels, channels of the level), packed
 * @param {Uint8Array} weights (pixels, all channels), packed
 * @param {{height: number, width: number, channels: number}} shape
 * @param {number[]} coefficients
 */
function weightedSum(bits, weights, {height, width, channels}, coefficients) {
  let sum = 0;
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let channel = 0; channel < channels; channel++) {
      const same =
        bitAt(bits, pixel * channels + channel) ===
        bitAt(weights, pixel * coefficients.length + channel);
      sum += same ? coefficients[channel] : -coefficients[channel];
    }
  }
  return sum;
}

/**
 * @param {Uint8Array} bytes
 * @param {number} index
 */
export function bitAt(bytes, index) {
  return (bytes[index >> 3] >> (index & 7)) & 1;
}

/** @param {number[]} logits */
function softmax(logits) {
  const best = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp(logit - best));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}
