// Runs every level of a model over the pictures of a file:
// node exercise.js MODULE BLOB DESCRIPTION PICTURES RESULTS PROBABILITIES
import {readFileSync, writeFileSync} from 'node:fs';

import {exitProbabilities} from './exit.js';
import {results} from './results.js';
import {load} from './taper.js';

const [module, blob, described, pictures, written, probabilities] = process.argv.slice(2);

const device = await load(readFileSync(blob), readFileSync(module));
const {exit} = JSON.parse(readFileSync(described, 'utf8'));
const images = new Uint8Array(readFileSync(pictures));
writeFileSync(written, Buffer.concat(results(device, images)));

const size = device.height * device.width * device.channels;
const shares = [];
for (let at = 0; exit && at < images.length; at += size) {
  for (let level = 0; level < device.levels; level++) {
    const sample = device.run(images.subarray(at, at + size), level);
    shares.push(exitProbabilities(exit, sample));
  }
}
writeFileSync(probabilities, JSON.stringify(shares));
