// What a person may name a model by, as the address of its files: a hub's repository, an address of a file or folder, or of a hub's page about it.
import { absoluteUrl } from "../bytes/http-client";
import { LlmError } from "../errors";

export interface ModelAddress {
  /** For messages. */
  readonly name: string;
  /** Of the weights' file, or of the folder. */
  readonly url: URL;
  /** The address names one content for ever, as a commit's does. */
  readonly isImmutable: boolean;
}

export interface HubOptions {
  /** Of the hub; "https://huggingface.co" unless given. */
  readonly hubEndpoint?: string;
  /** Commit, branch or tag of a hub repository. Default "main". */
  readonly revision?: string;
}

const HUB_ENDPOINT = "https://huggingface.co";
const HUB_HOSTS = ["huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com"];
const HUB_NAME = /^\w[\w.-]*$/;
const URL_LIKE = /^([a-z][a-z\d+.-]*:|[./])/i; // has a scheme, or is relative to the page
const COMMIT = /^[0-9a-f]{40}$/;
const WEIGHTS_FILE = /\.(gguf|safetensors)$/i;
/** Where a hub shows a file or folder to people. */
const PAGE_PATH = /^((?:\/[^/]+)*?\/[\w.-]+\/[\w.-]+)\/(?:blob|tree|raw)\/([^/]+)(\/.*)?$/;

export function isWeightsFile(name: string): boolean {
  return WEIGHTS_FILE.test(name);
}

/** @throws LlmError "bad-request" when it names no model, with what would. */
export function addressOf(location: string | URL, options: HubOptions = {}): ModelAddress {
  const text = String(location).trim();
  const [host = ""] = text.split("/");
  if (HUB_HOSTS.includes(host.toLowerCase())) return urlAddress(httpUrl(`https://${text}`), options);
  return URL_LIKE.test(text) ? urlAddress(httpUrl(text), options) : hubAddress(text, options);
}

function hubAddress(text: string, options: HubOptions): ModelAddress {
  const [owner = "", name = "", ...path] = text.split("/");
  const refuse = (found: string, advice: string) => new LlmError("bad-request", `"${text}" ${found}: ${advice}`);
  const tag = /^(\w[\w.-]*):([\w.-]+)$/.exec(name);
  if (HUB_NAME.test(owner) && tag && path.length === 0) {
    const advice = `name the file itself, such as "${owner}/${tag[1]}/NAME-${tag[2]}.gguf", as the repository's list of files has it.`;
    throw refuse("names a quantisation, which may be any of the repository's files", advice);
  }
  if (path.length === 0 && WEIGHTS_FILE.test(text)) {
    const advice = `write "./${text}" for a file beside the page, or "owner/name/file.gguf" for one of a hub.`;
    throw refuse("is a file's path and no repository", advice);
  }
  if (!HUB_NAME.test(owner) || !HUB_NAME.test(name) || path.includes(".") || path.includes("..")) {
    throw refuse("is no model", 'expected "owner/name" of a hub repository, "owner/name/file.gguf", or a URL.');
  }
  return { ...resolved([owner, name], path, options), name: text };
}

function resolved(repository: readonly string[], path: readonly string[], { hubEndpoint = HUB_ENDPOINT, revision = "main" }: HubOptions) {
  const segments = [...repository, "resolve", ...[revision, ...path].map(encodeURIComponent)];
  const url = httpUrl(`${hubEndpoint.replace(/\/+$/, "")}/${segments.join("/")}`);
  return { url, isImmutable: COMMIT.test(revision) };
}

/** The address bar's address of a hub's page means what the page shows. On other sites a folder may well be named "blob". */
function urlAddress(url: URL, { hubEndpoint, revision = "main" }: HubOptions): ModelAddress {
  const name = url.href;
  const endpoint = hubEndpoint === undefined ? undefined : httpUrl(hubEndpoint);
  const isHub = HUB_HOSTS.includes(url.hostname);
  const page = isHub || endpoint?.origin === url.origin ? PAGE_PATH.exec(url.pathname) : null;
  const target = new URL(url);
  if (page) {
    const [, repository, pageRevision = "", path = ""] = page;
    target.pathname = `${repository}/resolve/${pageRevision}${path}`;
    return { name, url: target, isImmutable: COMMIT.test(pageRevision) };
  }
  if (isHub && /^\/[\w.-]+\/[\w.-]+\/?$/.test(url.pathname)) {
    target.pathname = `${url.pathname.replace(/\/$/, "")}/resolve/${encodeURIComponent(revision)}`;
    return { name, url: target, isImmutable: COMMIT.test(revision) };
  }
  return { name, url, isImmutable: false };
}

function httpUrl(text: string): URL {
  const url = new URL(absoluteUrl(text));
  if (/^https?:$/.test(url.protocol)) return url;
  throw new LlmError("bad-request", `"${text}" begins with "${url.protocol}": expected http or https. A file is passed as a File.`);
}
