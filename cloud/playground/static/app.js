// @ts-check
/** The page: takes pictures, runs the device half, asks the cloud, and shows the results. */

import {askCloud, CloudAway, cloudIsReady} from './cloud.js';
import {drawCurve, running, Strip, testDigits} from './digits.js';
import {Half} from './half.js';
import {Member} from './member.js';
import {Pad} from './pad.js';
import {greyPng} from './png.js';
import {prepare, toGrey} from './prepare.js';
import {Camera, readFile} from './sources.js';
import {HARDWARE, Samples} from './samples.js';
import {element, percent, showAnswer, showBits, showPicture, showSizes, whole, write} from './view.js';
import {Work} from './work.js';

/** @typedef {import('./half.js').Run} Run */
/** @typedef {import('./cloud.js').CloudAnswer} CloudAnswer */

const SIDE = 28;
const RETRY_MS = 1000;
const half = await Half.fetch();
const {classes, fractions, cloud_fractions: cloudFractions} = half.description;

let pixels = new Uint8Array(SIDE * SIDE);
let pngFile = greyPng(pixels, SIDE, SIDE); // the PNG of `pixels`, made once for each picture
let picture = 0; // counts pictures and settings, so that late answers are dropped
let asking = false;
let cloudWell = true;
let playing = false;
let strip = new Strip();

const pad = new Pad(element('pad'), element('pen'), () => take(pad.pixels()));
const camera = new Camera(element('video'), (image) => take(image));

/** @returns {number} */
const level = () => Number(element('d').value);
/** The chosen cloud level, or null if the cloud may choose. @returns {number | null} */
const cloudLevel = () => (Number(element('c').value) ? Number(element('c').value) - 1 : null);
/** @returns {boolean} */
const exitOn = () => element('exit').checked;
/** Whether the exit head answers, in which case nothing is sent. @type {(run: Run) => boolean} */
const isKept = (run) => exitOn() && run.stays;
const samples = new Samples(half, {cloudLevel, secondOn: () => element('second').checked, cloudAway: (reason) => setCloud(false, reason)});

/**
 * Show and classify a new picture of any size.
 * @param {ImageData} image
 * @param {string} [note]
 */
function take(image, note = '') {
  const {preprocessing} = half.description;
  const prepared = prepare(toGrey(image), preprocessing, SIDE);
  write('note', prepared.found ? note : 'Nothing stands out in this picture yet.');
  see(prepared.pixels);
}

/** @param {Uint8Array} next the network's input */
function see(next) {
  pixels = Uint8Array.from(next);
  pngFile = greyPng(pixels, SIDE, SIDE);
  update();
}

/** Run the device half, show its results, and ask the cloud. */
function update() {
  picture++;
  document.body.dataset.state = 'asking';
  const run = half.run(pixels, level());
  showPicture(element('seen'), pixels);
  showBits(element('bits'), run, half.description.sent_channels[half.widest]);
  showAnswer('exit-answer', run, classes, exitNote(run));
  write('macs', `${whole(half.description.macs[run.level])} multiply-accumulates`);
  showSettings();
  void showSent(picture, isKept(run) ? [] : [run], run);
  void askForAnswers();
}

/** @param {Run} run */
function exitNote(run) {
  const sure = percent(run.sure);
  const least = percent(half.description.exit.threshold[run.level]);
  return `${sure} sure; ${run.stays ? 'at least' : 'less than'} ${least}: ${run.stays ? 'it may answer' : 'the cloud is asked'}`;
}

function showSettings() {
  const chosen = cloudLevel();
  write('d-value', String(fractions[level()]));
  write('c-value', chosen === null ? 'the cloud chooses' : String(cloudFractions[chosen]));
  element('d').setAttribute('aria-valuetext', `fraction ${fractions[level()]}`);
  element('c').setAttribute('aria-valuetext', element('c-value').textContent);
}

/**
 * @param {number} number
 * @param {Run[]} looks what is sent: nothing, one look or two
 * @param {Run} first
 */
async function showSent(number, looks, first) {
  const png = await pngFile;
  if (number !== picture) return;
  const bytes = looks.reduce((sum, {payload}) => sum + payload.length, 0);
  showSizes(bytes, png.length);
  const joules = samples.energy(first, looks);
  write('energy', `${(joules * 1e6).toFixed(0)} µJ on a ${half.description.energy[HARDWARE].title}`);
  const raw = looks.reduce((sum, look) => sum + look.raw.length, 0);
  const kinds = [...new Set(looks.map(({encoding}) => encoding))].join(', ');
  write('encoding', looks.length ? `${bytes} of ${raw} bytes after coding (${kinds})` : 'nothing is sent');
}

/** Ask the cloud about the newest picture; those that come during a request are skipped. */
async function askForAnswers() {
  if (asking) return;
  asking = true;
  for (let asked = -1; asked !== picture; ) {
    asked = picture;
    const run = half.run(pixels, level());
    const full = half.run(pixels, half.widest);
    try {
      const [narrow, wide] = await Promise.all([
        askCloud(half.description.name, run, cloudLevel()),
        askCloud(half.description.name, full, cloudFractions.length - 1),
      ]);
      setCloud(true);
      if (asked === picture) showCloud(run, full, narrow, wide);
    } catch (error) {
      if (!(error instanceof CloudAway)) throw error;
      setCloud(false, error.message);
      if (asked === picture) showCloud(run, full, null, null);
    }
  }
  asking = false;
  document.body.dataset.state = 'answered';
}

/**
 * @param {Run} run
 * @param {Run} full the same picture at the widest level
 * @param {CloudAnswer | null} narrow
 * @param {CloudAnswer | null} wide
 */
function showCloud(run, full, narrow, wide) {
  const round = narrow && `c = ${cloudFractions[narrow.cloudLevel]}, ${narrow.ms.toFixed(1)} ms there and back`;
  showAnswer('cloud-answer', narrow, classes, round ?? 'the cloud is away');
  const best = wide && `c = ${cloudFractions[wide.cloudLevel]}, to compare with`;
  showAnswer('full-answer', wide, classes, best ?? 'the cloud is away');
  const {label, by} = decided(run, narrow);
  const again = narrow && wide && !isKept(run) && samples.asksAgain(run, narrow);
  if (again) void showSent(picture, [run, full], run);
  write('answer', classes[again ? wide.label : label]);
  write('by', again ? `the cloud at the second look, from ${run.payload.length} and ${full.payload.length} bytes` : by);
}

/**
 * The half that answers, as on a device: the exit head if its confidence is sufficient or the cloud
 * cannot be reached, else the cloud.
 * @param {Run} run
 * @param {CloudAnswer | null} cloud
 */
function decided(run, cloud) {
  if (isKept(run)) return {label: run.label, by: 'the exit head on this device; nothing is sent'};
  if (!cloud) return {label: run.label, by: 'the exit head on this device, since the cloud cannot be reached'};
  return {label: cloud.label, by: `the cloud, from ${run.payload.length} bytes, in ${cloud.ms.toFixed(1)} ms`};
}

/**
 * Show whether the cloud can be reached; if not, try again every second.
 * @param {boolean} well
 * @param {string} reason
 */
function setCloud(well, reason = '') {
  element('cloud').classList.toggle('away', !well);
  write('cloud', well ? 'cloud connected' : 'cloud away');
  element('cloud').title = reason;
  if (cloudWell && !well) window.setTimeout(retry, RETRY_MS);
  cloudWell = well;
}

async function retry() {
  if (!(await cloudIsReady())) {
    window.setTimeout(retry, RETRY_MS);
    return;
  }
  cloudWell = true;
  update();
}

/** Run all test digits with the present settings. */
async function play() {
  playing = true;
  strip = new Strip();
  element('play').textContent = 'Stop';
  element('csv').disabled = true;
  for (const digit of await testDigits()) {
    if (!playing) break;
    const threshold = exitOn() ? half.description.exit.threshold[level()] : null;
    strip.rows.push(await samples.play(digit.pixels, digit.label, level(), threshold));
    showStrip();
  }
  playing = false;
  element('play').textContent = 'Play again';
  element('csv').disabled = strip.rows.length === 0;
  write('strip-state', `${strip.rows.length} digits played: ${element('strip-accuracy').textContent} right`);
}

function showStrip() {
  const {rows, accuracy, bytes, joules} = strip;
  write('strip-count', `${rows.length} of 200`);
  write('strip-accuracy', percent(accuracy));
  write('strip-bytes', `${whole(bytes)} bytes`);
  write('strip-energy', `${(joules * 1e3).toFixed(1)} mJ`);
  const right = running(rows.map((row) => Number(row.label === row.answer)));
  drawCurve(element('accuracy-curve'), right.map((sum, i) => sum / (i + 1)), 1);
  const widest = 200 * half.description.sent_channels[half.widest] * 7;
  drawCurve(element('bytes-curve'), running(rows.map((row) => row.bytes)), widest);
  const most = 200 * half.joules(half.widest, widest / 200, HARDWARE);
  drawCurve(element('energy-curve'), running(rows.map((row) => row.joules)), most);
}

/**
 * Let the browser save a file.
 * @param {BlobPart} content
 * @param {string} type
 * @param {string} name
 */
function save(content, type, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], {type}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function stopCamera() {
  if (!camera.on) return;
  camera.stop();
  element('view').classList.remove('filming');
  element('camera').textContent = 'Camera';
}

async function toggleCamera() {
  if (camera.on) {
    stopCamera();
    return;
  }
  try {
    await camera.start();
    element('view').classList.add('filming');
    element('camera').textContent = 'Stop camera';
    write('note', 'Hold a dark digit on light paper in front of the camera.');
  } catch (error) {
    write('note', /** @type {Error} */ (error).message);
  }
}

/** @param {File | undefined} file */
async function openFile(file) {
  if (!file) return;
  stopCamera();
  try {
    const image = await readFile(file);
    pad.show(await createImageBitmap(image), true);
    take(image, file.name);
  } catch {
    write('note', `${file.name} is not a picture that this browser can read.`);
  }
}

let next = 0;
async function showDigit() {
  stopCamera();
  const digits = await testDigits();
  const digit = digits[next % digits.length];
  next += 1;
  showPicture(element('seen'), digit.pixels);
  pad.show(element('seen'), false);
  write('note', `Test digit ${next} of ${digits.length}: somebody wrote a ${digit.label}.`);
  see(digit.pixels);
}

/** @param {{connected: boolean, device: string, version: number, sent: number}} state */
function showMember({connected, device, version, sent}) {
  element('join-form').hidden = Boolean(device);
  element('member').hidden = !device;
  write('member-name', device);
  write('member-state', connected ? 'connected' : 'not connected');
  write('member-version', version ? `desired state ${version} in force` : 'no desired state yet');
  write('member-sent', `${sent} messages of telemetry confirmed`);
}

/** Offer to join if this page's host has a fleet; a browser that is a member already connects. */
async function offerFleet() {
  const {websockets} = await (await fetch('/settings')).json();
  if (!websockets) return;
  element('fleet').hidden = false;
  const steered = (/** @type {number} */ at) => {
    element('d').value = at;
    update();
  };
  const member = new Member(websockets, () => new Work(half, samples.play, steered), showMember);
  element('join-form').addEventListener('submit', async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await member.enrol(element('code').value);
      write('join-note', '');
      await begin();
    } catch (error) {
      write('join-note', /** @type {Error} */ (error).message);
    }
  });
  element('leave').addEventListener('click', () => member.leave());
  /** Allow one page only, as two pages of a browser would take the connection from each other. */
  const begin = () => {
    void navigator.locks.request('taper-member', {ifAvailable: true}, async (lock) => {
      if (!lock) write('join-note', 'Another page of this browser is the member.');
      else await member.live();
    });
  };
  if (member.enrolled) begin();
}

element('second-switch').hidden = !half.looksTwice;
for (const id of ['d', 'c', 'exit', 'second']) element(id).addEventListener('input', update);
element('clear').addEventListener('click', () => {
  stopCamera();
  pad.clear();
  take(pad.pixels());
});
element('digit').addEventListener('click', showDigit);
element('camera').addEventListener('click', toggleCamera);
element('file').addEventListener('change', () => {
  void openFile(element('file').files[0]);
  element('file').value = ''; // allows the same file to be chosen again
});
element('png-file').addEventListener('click', async () =>
  save(await pngFile, 'image/png', 'seen.png'),
);
element('play').addEventListener('click', () => (playing ? (playing = false) : void play()));
element('csv').addEventListener('click', () => save(strip.csv(), 'text/csv', 'digits.csv'));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', update);
await showDigit();
await offerFleet();
