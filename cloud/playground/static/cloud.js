// @ts-check
/** Requests to the cloud by the REST form of the Open Inference Protocol, through this page's host. */

/**
 * `ms` is the round trip; `cloudLevel` the level that the cloud used.
 * @typedef {{label: number, probabilities: number[], cloudLevel: number, ms: number}} CloudAnswer
 */

/** The cloud did not answer. */
export class CloudAway extends Error {}

/** @typedef {{level: number, raw: Uint8Array}} Bits */

/**
 * Let the cloud classify a sample from its bits.
 * @param {string} model
 * @param {Bits} bits
 * @param {number | null} cloudLevel null: the cloud chooses
 * @returns {Promise<CloudAnswer>} rejects with `CloudAway`
 */
export async function askCloud(model, {level, raw}, cloudLevel) {
  const parameters = cloudLevel === null ? {level} : {level, cloud_level: cloudLevel};
  const features = {name: 'features', datatype: 'UINT8', shape: [1, raw.length], data: [...raw]};
  const began = performance.now();
  const answer = await sent(`/v2/models/${model}/infer`, {parameters, inputs: [features]});
  const ms = performance.now() - began;
  /** @type {(name: string) => number[]} */
  const output = (name) => answer.outputs.find((/** @type {any} */ one) => one.name === name).data;
  return {
    label: output('label')[0],
    probabilities: output('probabilities'),
    cloudLevel: answer.parameters.cloud_level,
    ms,
  };
}

/**
 * @param {string} path
 * @param {object} question
 * @returns {Promise<any>}
 */
async function sent(path, question) {
  let response;
  try {
    response = await fetch(path, {method: 'POST', body: JSON.stringify(question)});
  } catch {
    throw new CloudAway('the host of this page cannot be reached');
  }
  const answer = await response.json().catch(() => ({error: `status ${response.status}`}));
  if (!response.ok) throw new CloudAway(answer.error ?? `status ${response.status}`);
  return answer;
}

/** Whether the cloud is ready to answer. */
export async function cloudIsReady() {
  try {
    return Boolean((await (await fetch('/cloud')).json()).ready);
  } catch {
    return false;
  }
}
