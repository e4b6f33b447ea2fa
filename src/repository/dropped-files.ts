// Files that a visitor chose or dropped, as a model's. Those of a folder are told apart by their paths.
import { openBlob } from "../bytes/blob-source";
import type { ByteEventListener } from "../bytes/byte-source";
import { LlmError } from "../errors";
import type { ModelFiles } from "./file-answer";
import { isWeightsFile } from "./model-address";

interface Folder {
  /** "" for files that came without a path. */
  readonly path: string;
  readonly files: readonly File[];
}

/**
 * One GGUF, or a folder's config.json, tokenizer.json and safetensors. Of a folder with checkpoints in it, the model nearest to the folder
 * itself is taken.
 *
 * @throws LlmError "bad-request" when there are no weights among them, or several models and none is nearest.
 */
export function droppedFiles(files: readonly File[], onEvent?: ByteEventListener): ModelFiles {
  const folder = nearestModel(foldersOf(files)) ?? { path: "", files };
  refuseTwins(folder);
  const weights = folder.files.filter(({ name }) => isWeightsFile(name));
  const gguf = weights.filter(({ name }) => /\.gguf$/i.test(name));
  const [first] = weights;
  if (!first) {
    const found = listed(files.map(({ name }) => name)) || "nothing";
    throw new LlmError(
      "bad-request",
      `No weights among the files (${found}): expected a .gguf, or config.json, tokenizer.json and .safetensors.`,
    );
  }
  if (gguf.length > 1) throw new LlmError("bad-request", `Several GGUF files (${listed(gguf.map(({ name }) => name))}): drop one.`);
  const weightsFile = gguf[0]?.name ?? (weights.length === 1 ? first.name : null);
  const place = folder.path === "" ? "" : `${folder.path}/`;
  return {
    name: place + (weightsFile ?? first.name),
    weightsFile,
    open: async (name) => {
      const file = folder.files.find((candidate) => candidate.name === name);
      return file ? openBlob(file, { name: place + name, ...(onEvent && { onEvent }) }) : null;
    },
  };
}

function foldersOf(files: readonly File[]): readonly Folder[] {
  const byPath = new Map<string, File[]>();
  for (const file of files) {
    const path = file.webkitRelativePath ?? ""; // Node's File has none
    const folder = path.slice(0, Math.max(0, path.lastIndexOf("/")));
    byPath.set(folder, [...(byPath.get(folder) ?? []), file]);
  }
  return [...byPath].map(([path, own]) => ({ path, files: own }));
}

/** Undefined where no folder holds a whole model: its files may lie in several. */
function nearestModel(folders: readonly Folder[]): Folder | undefined {
  const models = folders.filter(isModel);
  const depthOf = ({ path }: Folder) => (path === "" ? 0 : path.split("/").length);
  const nearest = Math.min(...models.map(depthOf));
  const [first, ...others] = models.filter((folder) => depthOf(folder) === nearest);
  if (others.length === 0 || !first) return first;
  const paths = [first, ...others].map(({ path }) => path);
  throw new LlmError("bad-request", `Several models among the files, in the folders ${listed(paths)}: drop one of these folders.`);
}

function isModel({ files }: Folder): boolean {
  const has = (pattern: RegExp) => files.some(({ name }) => pattern.test(name));
  return has(/\.gguf$/i) || (has(/^config\.json$/) && has(/\.safetensors$/i));
}

const READ_FILE = /\.(gguf|safetensors|json|jinja)$/i;

/** Of two files with one name nobody can say which is meant. */
function refuseTwins({ files }: Folder): void {
  const names = files.map(({ name }) => name).filter((name) => READ_FILE.test(name));
  const twins = [...new Set(names.filter((name, index) => names.indexOf(name) < index))];
  if (twins.length === 0) return;
  throw new LlmError("bad-request", `Several files are named ${listed(twins)}, maybe of a checkpoint: drop the files of one model.`);
}

const MOST_LISTED = 10;

function listed(names: readonly string[]): string {
  const rest = names.length > MOST_LISTED ? `, and ${names.length - MOST_LISTED} more` : "";
  return names.slice(0, MOST_LISTED).join(", ") + rest;
}
