// Validates custom resources by the projects' own schemas: a JSON list on standard input, a list of faults a resource out.
//
// The schemas are compiled to functions that read what they know and pass over what they don't. A cluster drops unknown
// fields in silence, which is how a typing error in a ServiceMonitor goes unseen; so a resource is handed over behind
// proxies that note what was read, and what was not is a fault.
import { readFile } from "node:fs/promises";

const PACKAGES = {
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};

async function schemaOf({ apiVersion, kind }) {
  const [group] = apiVersion.split("/");
  const folder = new URL(`node_modules/@kubernetes-models/${PACKAGES[group]}/`, import.meta.url);
  const model = await readFile(new URL(`${apiVersion}/${kind}.js`, folder), "utf8");
  const [, name] = model.match(/_schemas\/(\w+)\.js/);
  return import(new URL(`_schemas/${name}.js`, folder));
}

function watched(value, path, unread) {
  if (value === null || typeof value !== "object") return value;
  const seen = new Map();
  for (const key of Object.keys(value)) {
    unread.add(`${path}/${key}`);
    seen.set(key, watched(value[key], `${path}/${key}`, unread));
  }
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === "string") unread.delete(`${path}/${key}`);
      return seen.has(key) ? seen.get(key) : target[key];
    },
  });
}

async function faultsOf(resource) {
  const { validate } = await schemaOf(resource);
  const unread = new Set();
  const faults = validate(watched(resource, "", unread))
    ? []
    : validate.errors.map(({ instancePath, message, keyword, params }) =>
        `${instancePath}: ${message ?? keyword} ${JSON.stringify(params)}`);
  return [...faults, ...[...unread].map((path) => `${path}: unknown field`)];
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const resources = JSON.parse(Buffer.concat(chunks).toString());
console.log(JSON.stringify(await Promise.all(resources.map(faultsOf))));
