// A member of a fleet in Node, with stand-ins for the browser and the broker. Delivers the desired
// states in ARGUMENT, a JSON list, and prints what the member applied and reported:
// node exercise_member.js ARGUMENT
import {writeFileSync} from 'node:fs';

const kept = new Map();
globalThis.window = {
  localStorage: {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  },
  setTimeout: () => 0,
  clearTimeout: () => {},
};
const broker = `
  export const client = {connected: true, handlers: {}, published: []};
  client.on = client.once = (name, handler) => (client.handlers[name] = handler);
  client.subscribeAsync = async () => {};
  client.publishAsync = async (topic, payload) => client.published.push([topic, payload]);
  client.end = () => {};
  export default {connect: () => client};
`;
writeFileSync('device/mqtt.js', broker);
const {client} = await import('./device/mqtt.js');
const {Member} = await import('./member.js');

const applied = [];
const worker = {
  describe: () => ({levels: [1], exit_head: false, model_version: ''}),
  settings: () => ({telemetry_s: 1}),
  apply: (settings) => (applied.push(settings), []),
  measure: () => ({}),
  stop: () => {},
};
const member = new Member('', () => worker, () => {});
member.ledger.begin({fleet: 'city', device: 'phone', user: '', password: ''});
void member.live();
while (!client.handlers.message) await new Promise((resolve) => setTimeout(resolve, 1));
for (const state of JSON.parse(process.argv[2])) {
  client.handlers.message('taper/v1/city/phone/desired', new TextEncoder().encode(JSON.stringify(state)));
}
const reports = client.published.filter(([topic]) => topic.endsWith('/reported'));
console.log(JSON.stringify({applied, versions: reports.map(([, payload]) => JSON.parse(payload).version)}));
process.exit(0);
