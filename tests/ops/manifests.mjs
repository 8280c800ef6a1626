// Reads {case: YAML text of Kubernetes objects} from stdin and writes {case: {objects, faults}} to stdout.
//
//   node manifests.mjs FOLDER <cases.json
//
// FOLDER is where npm has put the packages. Two checks find what the other one does not see: the compiled JSON schemas of
// kubernetes-models check types, required fields and values; the same objects as literals of its TypeScript types show fields that do
// not exist. A fault begins with the check that found it: yaml, schema or type.
import { createRequire } from "node:module";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const require = createRequire(join(folder, "package.json"));
const resolve = (name) => {
  const [scope, rest] = name.startsWith("@") ? [name.split("/").slice(0, 2).join("/"), name.split("/").slice(2)] : [name.split("/")[0], name.split("/").slice(1)];
  return pathToFileURL(join(folder, "node_modules", scope, ...rest) + ".js").href;
};
const ts = require("typescript");
const yaml = require("yaml");

// The module of an object's class, or null.
function moduleOf(object) {
  const { apiVersion, kind } = object ?? {};
  if (typeof apiVersion !== "string" || !/^[\w.]+(\/v\w+)?$/.test(apiVersion) || typeof kind !== "string" || !/^\w+$/.test(kind)) {
    return null;
  }
  const name = apiVersion.startsWith("monitoring.coreos.com/") ? "@kubernetes-models/prometheus-operator" : "kubernetes-models";
  return `${name}/${apiVersion}/${kind}`;
}

async function schemaFaults(object) {
  const name = moduleOf(object);
  let model;
  try {
    model = (await import(resolve(name)))[object.kind];
  } catch {
    return [`schema: no class for ${object?.apiVersion} ${object?.kind}`];
  }
  try {
    new model(object).validate();
    return [];
  } catch (error) {
    return [`schema: ${object.kind}: ${error.message}`];
  }
}

// One source file for each case, and one compilation for all.
function typeFaults(cases) {
  const sources = new Map();
  for (const [name, { objects }] of Object.entries(cases)) {
    const lines = objects.flatMap((object, index) => {
      const module = moduleOf(object);
      return module ? [`import type { I${object.kind} as T${index} } from "${module}";`, `export const o${index}: T${index} = ${JSON.stringify(object)};`] : [];
    });
    sources.set(join(folder, `case-${sources.size}.ts`), { name, text: lines.join("\n") });
  }
  const options = { strict: true, noEmit: true, skipLibCheck: true, types: [], lib: ["lib.es2022.d.ts"], target: ts.ScriptTarget.ES2022,
                    module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.getSourceFile = (file, ...rest) => sources.has(file) ? ts.createSourceFile(file, sources.get(file).text, ...rest) : getSourceFile(file, ...rest);
  host.fileExists = (file) => sources.has(file) || fileExists(file);
  host.readFile = (file) => sources.get(file)?.text ?? readFile(file);
  const program = ts.createProgram([...sources.keys()], options, host);
  const complaints = [...program.getGlobalDiagnostics(), ...program.getOptionsDiagnostics()];
  if (complaints.length) {
    throw new Error(ts.flattenDiagnosticMessageText(complaints[0].messageText, "\n"));
  }
  for (const [file, { name }] of sources) {
    const source = program.getSourceFile(file);
    for (const found of [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]) {
      cases[name].faults.push(`type: TS${found.code}: ${ts.flattenDiagnosticMessageText(found.messageText, "\n")}`);
    }
  }
}

const cases = {};
for (const [name, text] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
  const documents = yaml.parseAllDocuments(text, { uniqueKeys: true });
  const faults = documents.flatMap((document) => document.errors.map((error) => `yaml: ${error.message}`));
  const objects = faults.length ? [] : documents.map((document) => document.toJS()).filter((object) => object !== null);
  for (const object of objects) {
    faults.push(...await schemaFaults(object));
  }
  cases[name] = { objects, faults };
}
typeFaults(cases);
process.stdout.write(JSON.stringify(cases));
