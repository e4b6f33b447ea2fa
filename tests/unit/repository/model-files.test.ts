// Where a model's files are looked for, whatever way a person names it.
import { afterEach, describe, expect, test, vi } from "vitest";
import { droppedFiles, type FetchOptions, locateModel } from "../../../src/repository/model-files";
import { expectLlmError } from "../../support/expect-llm-error";
import { MemoryDirectory } from "../../support/memory-directory";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** The address that `file` of `location` is asked from. */
async function urlOf(location: string | URL, file: string, options: FetchOptions = {}): Promise<string> {
  let asked = "";
  const fetch = async (input: RequestInfo | URL) => {
    asked = String(input);
    return new Response(null, { status: 404 });
  };
  expect(await locateModel(location, { ...options, fetch }).open(file)).toBeNull();
  return asked;
}

function expectBadRequest(location: string | URL, ...words: string[]): Promise<void> {
  return expectLlmError((async () => locateModel(location))(), "bad-request", ...words);
}

afterEach(() => vi.unstubAllGlobals());

describe("a repository of a hub", () => {
  test("has its files below its revision, which is main unless told", async () => {
    const files = locateModel("owner/my.model-1_b");
    expect(files).toMatchObject({ name: "owner/my.model-1_b", weightsFile: null });
    expect(await urlOf("owner/my.model-1_b", "config.json")).toBe("https://huggingface.co/owner/my.model-1_b/resolve/main/config.json");
    expect(await urlOf("owner/name/", "config.json")).toBe("https://huggingface.co/owner/name/resolve/main/config.json");
    const revision = "refs/pr/1";
    expect(await urlOf("owner/name", "config.json", { revision })).toBe(
      "https://huggingface.co/owner/name/resolve/refs%2Fpr%2F1/config.json",
    );
  });

  test("may name its weights' file, and other files are looked for beside it", async () => {
    const files = locateModel("owner/name/some/model.Q4_0.GGUF");
    expect(files).toMatchObject({ name: "owner/name/some/model.Q4_0.GGUF", weightsFile: "model.Q4_0.GGUF" });
    const folder = "https://huggingface.co/owner/name/resolve/main/some";
    expect(await urlOf("owner/name/some/model.Q4_0.GGUF", "model.Q4_0.GGUF")).toBe(`${folder}/model.Q4_0.GGUF`);
    expect(await urlOf("owner/name/some/model.safetensors", "config.json")).toBe(`${folder}/config.json`);
    expect(await urlOf("owner/name/some", "config.json")).toBe(`${folder}/config.json`);
  });

  test("keeps a file's odd characters in the path", async () => {
    const { weightsFile } = locateModel("owner/name/100% a?b#c.gguf");
    expect(await urlOf("owner/name/100% a?b#c.gguf", weightsFile ?? "")).toBe(
      "https://huggingface.co/owner/name/resolve/main/100%25%20a%3Fb%23c.gguf",
    );
  });

  test("may be on another hub, whose address may end with a slash", async () => {
    for (const hubEndpoint of ["http://localhost:8080/hub", "http://localhost:8080/hub/"]) {
      expect(await urlOf("owner/name", "x", { hubEndpoint })).toBe("http://localhost:8080/hub/owner/name/resolve/main/x");
    }
  });

  test("is asked about nothing that a commit's cache holds", async () => {
    const asked: string[] = [];
    const fetch = async (input: RequestInfo | URL) => {
      asked.push(String(input));
      return new Response("{}", { headers: { "Content-Length": "2", ETag: '"1"' } });
    };
    const root = new MemoryDirectory();
    vi.stubGlobal("navigator", { storage: { getDirectory: async () => root.handle } });
    for (const revision of [COMMIT, COMMIT, "main", "main"]) {
      const source = await locateModel("owner/name", { fetch, revision }).open("config.json");
      expect(new TextDecoder().decode(await source?.read({ start: 0, end: 2 }))).toBe("{}");
    }
    expect(asked.map((url) => url.split("/")[6])).toEqual([COMMIT, "main", "main"]);
  });
});

describe("a URL", () => {
  test("of a weights file has other files beside it, and its query goes with each", async () => {
    const location = "https://host.test/models/model%20a.gguf?token=1#part";
    expect(locateModel(location).weightsFile).toBe("model a.gguf");
    expect(await urlOf(location, "model a.gguf")).toBe("https://host.test/models/model%20a.gguf?token=1");
    expect(await urlOf(new URL(location), "tokenizer.json")).toBe("https://host.test/models/tokenizer.json?token=1");
  });

  test("of a folder may end with a slash or not", async () => {
    for (const location of ["https://host.test/a/model", "https://host.test/a/model/"]) {
      expect(locateModel(location).weightsFile).toBeNull();
      expect(await urlOf(location, "config.json")).toBe("https://host.test/a/model/config.json");
    }
    expect(await urlOf("https://host.test", "config.json")).toBe("https://host.test/config.json");
    expect(await urlOf("https://host.test/model?v=2", "config.json")).toBe("https://host.test/model/config.json?v=2");
  });

  test("may be relative to the page", async () => {
    vi.stubGlobal("location", { href: "https://page.test/chat/index.html" });
    expect(await urlOf("./model", "config.json")).toBe("https://page.test/chat/model/config.json");
    expect(await urlOf("../m.gguf", "m.gguf")).toBe("https://page.test/m.gguf");
    expect(await urlOf("/models/m.gguf", "m.gguf")).toBe("https://page.test/models/m.gguf");
  });

  test("takes headers along, to each file", async () => {
    const headers: (string | null)[] = [];
    const fetch = async (_: RequestInfo | URL, init?: RequestInit) => {
      headers.push(new Headers(init?.headers).get("authorization"));
      return new Response(null, { status: 404 });
    };
    const files = locateModel("owner/name", { fetch, headers: { Authorization: "Bearer x" } });
    await files.open("config.json");
    await files.open("model.safetensors");
    expect(headers).toEqual(["Bearer x", "Bearer x"]);
  });
});

test("a name that is no model's says what one looks like", async () => {
  for (const name of ["", "model", "owner/", "owner/na me", "owner/..", "-x/name", "owner/name/../../other/file.gguf", "owner\\name"]) {
    await expectBadRequest(name, `"${name}"`, "owner/name", "URL");
  }
});

test("an address that is not the web's says so", async () => {
  await expectBadRequest("blob:https://host.test/1", "blob:", "expected http or https", "File");
  await expectBadRequest(new URL("file:///models/m.gguf"), "file:", "expected http or https");
  await expectBadRequest("http://", "no URL");
  await expectBadRequest("./m.gguf", "no URL"); // where there is no page
});

test("an error status is no missing file", async () => {
  const fetch = async () => new Response(null, { status: 401 });
  await expectLlmError(locateModel("owner/name", { fetch }).open("config.json"), "fetch-failed", "401", "token");
});

// People paste what the address bar shows.
describe("a hub's page", () => {
  test.each([
    ["https://huggingface.co/owner/name/blob/main/model.gguf", "https://huggingface.co/owner/name/resolve/main/model.gguf"],
    [
      "https://huggingface.co/owner/name/blob/main/a/model%20b.gguf?x=1#L1",
      "https://huggingface.co/owner/name/resolve/main/a/model%20b.gguf?x=1",
    ],
    ["huggingface.co/owner/name/blob/main/model.gguf", "https://huggingface.co/owner/name/resolve/main/model.gguf"],
  ])("about a file, %s, is the file", async (page, expected) => {
    const { weightsFile } = locateModel(page);
    expect(await urlOf(page, weightsFile ?? "")).toBe(expected);
  });

  test.each([
    ["https://huggingface.co/owner/name", "main"],
    ["https://huggingface.co/owner/name/", "main"],
    ["https://hf.co/owner/name", "main"],
    ["huggingface.co/owner/name", "main"],
    ["https://huggingface.co/owner/name/tree/main", "main"],
    ["https://huggingface.co/owner/name/tree/refs%2Fpr%2F1", "refs%2Fpr%2F1"],
    ["https://huggingface.co/owner/name/tree/main/sub", "main/sub"],
  ])("about a repository, %s, is the repository", async (page, place) => {
    const url = await urlOf(page, "config.json");
    expect(url.replace("https://hf.co", "https://huggingface.co")).toBe(`https://huggingface.co/owner/name/resolve/${place}/config.json`);
    expect(locateModel(page).weightsFile).toBeNull();
  });

  test("of the hub that the options name is the file, with all that stands in front of the repository", async () => {
    const page = "https://mirror.test/hub/owner/name/blob/v1.0/model.gguf";
    const expected = "https://mirror.test/hub/owner/name/resolve/v1.0/model.gguf";
    expect(await urlOf(page, "model.gguf", { hubEndpoint: "https://mirror.test/hub" })).toBe(expected);
  });

  test("of other sites, a folder of two names is a folder, and one named blob or raw too", async () => {
    for (const url of ["https://host.test/group/project/-/raw/main/x.gguf", "https://host.test/a/b/blob/main/x.gguf"])
      expect(await urlOf(url, "x.gguf")).toBe(url);
    expect(await urlOf("https://host.test/owner/name", "config.json")).toBe("https://host.test/owner/name/config.json");
  });
});

test("what names no repository is told apart from one, with what to write instead", async () => {
  await expectBadRequest("models/x.gguf", '"./models/x.gguf"', "owner/name/file.gguf");
  await expectBadRequest("models/x.SAFETENSORS", '"./models/x.SAFETENSORS"');
  await expectBadRequest("x.gguf", '"./x.gguf"');
  await expectBadRequest("owner/name:Q4_K_M", "owner/name/NAME-Q4_K_M.gguf");
  await expectBadRequest("C:\\models\\x.gguf", "expected http or https", "File");
});

describe("a dropped folder", () => {
  const file = (path: string) => {
    const made = new File([path], path.split("/").at(-1) ?? "");
    Object.defineProperty(made, "webkitRelativePath", { value: path });
    return made;
  };
  const model = (folder: string) => ["config.json", "model.safetensors", "tokenizer.json"].map((name) => file(`${folder}/${name}`));
  const opened = async (files: readonly File[], name = "model.safetensors") => (await droppedFiles(files).open(name))?.name;

  // The checkpoint's weights were loaded in silence where the browser listed them first.
  test.each([
    ["first", (outer: File[], inner: File[]) => [...inner, ...outer]],
    ["last", (outer: File[], inner: File[]) => [...outer, ...inner]],
  ])("is the model at its top, though checkpoints in it are listed %s", async (_, listing) => {
    expect(await opened(listing(model("run"), [...model("run/checkpoint-500"), ...model("run/a/b")]))).toBe("run/model.safetensors");
  });

  test("without a model at its top is the one nearest to it", async () => {
    expect(await opened([...model("run/a/b"), file("run/config.json"), ...model("run/final")])).toBe("run/final/model.safetensors");
    expect(await opened([file("run/config.json"), file("run/gguf/x.gguf"), ...model("run/a/b")], "x.gguf")).toBe("run/gguf/x.gguf");
  });

  test("takes no file of another folder for one that is missing beside the weights", async () => {
    const [config, weights] = model("run");
    expect(
      await opened([...model("run/checkpoint-500"), ...[config, weights].flatMap((each) => each ?? [])], "tokenizer.json"),
    ).toBeUndefined();
  });

  test("of several models side by side names their folders", async () => {
    const files = [...model("run/checkpoint-500"), ...model("run/checkpoint-900"), file("run/config.json")];
    await expectLlmError((async () => droppedFiles(files))(), "bad-request", "run/checkpoint-500, run/checkpoint-900", "drop one");
  });

  test("that lost its paths is refused where two files have one name, and not for others", async () => {
    const flat = (...names: string[]) => (async () => droppedFiles(names.map((name) => new File([name], name))))();
    await expectLlmError(
      flat("config.json", "model.safetensors", "config.json", "model.safetensors"),
      "bad-request",
      "config.json, model.safetensors",
    );
    expect((await flat("README.md", "x.gguf", "README.md")).weightsFile).toBe("x.gguf");
  });

  test("may spread one model over several folders", async () => {
    const files = [file("run/weights/model.safetensors"), file("run/config.json"), file("run/text/tokenizer.json")];
    expect(await opened(files, "config.json")).toBe("config.json");
  });
});

describe("dropped files", () => {
  const file = (name: string) => new File(["weights"], name);

  test("are opened by their names", async () => {
    const files = droppedFiles([file("config.json"), file("a-00001-of-00002.safetensors"), file("a-00002-of-00002.safetensors")]);
    expect(files.weightsFile).toBeNull();
    const source = await files.open("config.json");
    expect(source?.name).toBe("config.json");
    expect(new TextDecoder().decode(await source?.read({ start: 0, end: 7 }))).toBe("weights");
    expect(await files.open("tokenizer.json")).toBeNull();
  });

  test("with one weights file are named by it, whatever its name; a GGUF goes before what lies beside it", () => {
    expect(droppedFiles([file("config.json"), file("pytorch.safetensors")])).toMatchObject({
      name: "pytorch.safetensors",
      weightsFile: "pytorch.safetensors",
    });
    const mixed = droppedFiles([file("model.safetensors"), file("model.gguf")]);
    expect(mixed).toMatchObject({ name: "model.gguf", weightsFile: "model.gguf" });
  });

  test("without weights, or with two models, are refused by name", async () => {
    const drop = async (...names: string[]) => droppedFiles(names.map(file));
    await expectLlmError(drop("readme.md", "config.json"), "bad-request", "readme.md, config.json", "expected a .gguf");
    await expectLlmError(drop(), "bad-request", "nothing");
    await expectLlmError(drop("a.gguf", "b.gguf"), "bad-request", "a.gguf, b.gguf", "drop one");
  });
});
