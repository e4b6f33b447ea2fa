// The bench page: a form for the questions.
import { present } from "../src/assert";
import { ask } from "./ask";
import { QUESTIONS } from "./questions";
import { SYNTHETIC_NAMES } from "./synthetic-model";
import { type Table, tablesOf } from "./tables";

const EMBEDDED = "../models/smollm2-crescendo-64m/smollm2-crescendo-64m-q4_0.gguf";

function element<E extends Element>(id: string, type: new () => E): E {
  const found = present(document.getElementById(id), id);
  if (!(found instanceof type)) throw new Error(`#${id} is a ${found.tagName}`);
  return found;
}

function tableElement({ title, columns, rows }: Table): HTMLTableElement {
  const table = document.createElement("table");
  table.createCaption().textContent = title;
  const head = table.createTHead().insertRow();
  for (const column of columns) head.append(Object.assign(document.createElement("th"), { textContent: column }));
  const body = table.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) row.insertCell().textContent = cell;
  }
  return table;
}

function showPage(): void {
  const select = element("question", HTMLSelectElement);
  const model = element("model", HTMLInputElement);
  const options = element("options", HTMLInputElement);
  const run = element("run", HTMLButtonElement);
  const state = element("state", HTMLElement);
  const json = element("json", HTMLElement);
  const copy = element("copy", HTMLButtonElement);
  const tables = element("tables", HTMLElement);
  select.append(...Object.keys(QUESTIONS).map((name) => new Option(name)));
  select.value = "speed";
  model.value = EMBEDDED;
  element("models", HTMLDataListElement).append(...[EMBEDDED, ...SYNTHETIC_NAMES].map((name) => new Option(name)));
  element("form", HTMLFormElement).addEventListener("submit", async (event) => {
    event.preventDefault();
    run.disabled = true;
    state.textContent = "Measuring. The page may stutter; leave it in front.";
    try {
      const result = await ask(select.value, model.value || null, JSON.parse(options.value || "{}") as Record<string, unknown>);
      tables.replaceChildren(...tablesOf(result).map(tableElement));
      json.textContent = JSON.stringify(result, null, 2);
      copy.hidden = false;
      state.textContent = "";
    } catch (error) {
      state.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      run.disabled = false;
    }
  });
  copy.addEventListener("click", () => void navigator.clipboard.writeText(json.textContent ?? ""));
}

showPage();
