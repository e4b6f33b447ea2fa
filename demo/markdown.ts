// Renders Markdown block by block; as the text grows, only changed blocks are rendered again. The model's text is not trusted: raw HTML is shown
// as text, images become links, and all output passes DOMPurify.
import DOMPurify from "dompurify";
import { Marked, type Token } from "marked";
import { make } from "./dom";

const TAGS = "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr input li ol p pre strong table tbody td th thead tr ul".split(" ");
const PLAIN_ATTRIBUTES = ["align", "checked", "class", "disabled", "start", "type"];
const SAFE_ADDRESS = /^(?:https?:|mailto:)/i;

const escapeHtml = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // Shown as text: a model that explains HTML means the characters.
    html: ({ text, block }) => (block ? `<p>${escapeHtml(text)}</p>` : escapeHtml(text)),
    image: ({ text, href }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`,
  },
});

export interface MarkdownBlock {
  /** The block's Markdown source. */
  readonly raw: string;
  /** Start of the source in the text. */
  readonly start: number;
  readonly nodes: readonly ChildNode[];
}

export class MarkdownView {
  readonly #root: HTMLElement;
  readonly #frame: (block: MarkdownBlock) => readonly ChildNode[];
  #blocks: readonly MarkdownBlock[] = [];
  #links = "{}";

  /** @param frame Makes the page's nodes for a block. Default: the block's own nodes. */
  constructor(root: HTMLElement, frame: (block: MarkdownBlock) => readonly ChildNode[] = ({ nodes }) => nodes) {
    this.#root = root;
    this.#frame = frame;
  }

  /** Shows `text`. Blocks in a prefix shared with the previous text stay untouched, including a selection. */
  update(text: string): void {
    const tokens = marked.lexer(text);
    const links = JSON.stringify(tokens.links);
    const isSame = (raw: string, index: number) => raw === this.#blocks[index]?.raw;
    // A link definition at the end changes every block that refers to it.
    const firstChange = links === this.#links ? tokens.findIndex(({ raw }, index) => !isSame(raw, index)) : 0;
    const kept = firstChange < 0 ? tokens.length : firstChange;
    for (const { nodes } of this.#blocks.slice(kept)) for (const node of nodes) node.remove();
    const blocks = this.#blocks.slice(0, kept);
    let start = blocks.reduce((length, { raw }) => length + raw.length, 0);
    for (const token of tokens.slice(kept)) {
      const block = { raw: token.raw, start, nodes: renderBlock(token) };
      const nodes = this.#frame(block);
      this.#root.append(...nodes);
      blocks.push({ ...block, nodes });
      start += token.raw.length;
    }
    this.#blocks = blocks;
    this.#links = links;
  }
}

function renderBlock(token: Token): ChildNode[] {
  const fragment = DOMPurify.sanitize(marked.parser([token]), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: [...PLAIN_ATTRIBUTES, "href"],
    ADD_URI_SAFE_ATTR: PLAIN_ATTRIBUTES,
    ALLOWED_URI_REGEXP: SAFE_ADDRESS,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  for (const table of fragment.querySelectorAll("table")) wrap(table, make("div", "table-frame"));
  for (const pre of fragment.querySelectorAll("pre")) addCodeHead(pre);
  return [...fragment.childNodes];
}

function addCodeHead(pre: HTMLPreElement): void {
  const code = pre.querySelector("code");
  const language = /language-(\S+)/.exec(code?.className ?? "")?.[1] ?? "";
  const copy = make("button", "copy-button", "Copy");
  copy.type = "button";
  copy.ariaLabel = "Copy the code";
  copy.addEventListener("click", () => void copyText(code?.textContent ?? "", copy));
  const frame = make("div", "code-frame", make("div", "code-head", make("span", "", language), copy));
  pre.tabIndex = 0; // it scrolls sideways, so it must be reachable by keyboard
  wrap(pre, frame);
}

function wrap(inner: HTMLElement, outer: HTMLElement): void {
  inner.replaceWith(outer);
  outer.append(inner);
}

const SAID_MS = 1500;

/** Copies the text, and shows on the button whether it worked. */
export async function copyText(text: string, button: HTMLButtonElement): Promise<void> {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch (error) {
    console.warn(`The clipboard cannot be written: ${error}`);
    button.textContent = "Not allowed";
  }
  button.disabled = true;
  setTimeout(() => {
    button.textContent = label;
    button.disabled = false;
  }, SAID_MS);
}
