// Runs every level of a model over the pictures of a file, and writes what came out as exercise.c
// does: node exercise.js MODULE BLOB DESCRIPTION PICTURES RESULTS PROBABILITIES
import {readFileSync, writeFileSync} from 'node:fs';

import {exitProbabilities} from './exit.js';
import {load} from './taper.js';

const [module, blob, described, pictures, results, probabilities] = process.argv.slice(2);
const HEAD_BYTES = 40;
const REQUEST_ID = 7;

const device = await load(readFileSync(blob), readFileSync(module));
const {exit} = JSON.parse(readFileSync(described, 'utf8'));
const images = readFileSync(pictures);
const size = device.height * device.width * device.channels;
const written = [];
const shares = [];
for (let at = 0; at < images.length; at += size) {
  for (let level = 0; level < device.levels; level++) {
    const sample = device.run(new Uint8Array(images.buffer, images.byteOffset + at, size), level);
    const [raw, request] = [sample.raw(), sample.request(REQUEST_ID)];
    const head = new DataView(new ArrayBuffer(HEAD_BYTES));
    const answer = sample.exit ?? {label: 0, stays: false, margin: 0n};
    const fields = [0, answer.label, Number(answer.stays), raw.length, request.length, 0];
    fields.forEach((field, index) => head.setUint32(4 * index, field, true));
    head.setBigInt64(24, answer.margin, true);
    written.push(new Uint8Array(head.buffer), raw, request);
    const {payload} = sample.encode();
    if (Buffer.compare(payload, request.subarray(request.length - payload.length))) {
      throw new Error('a request does not end with its payload');
    }
    if (exit) shares.push(exitProbabilities(exit, sample));
  }
}
writeFileSync(results, Buffer.concat(written));
writeFileSync(probabilities, JSON.stringify(shares));
