// Marks an answer's blocks by the stage that wrote them: a thin rule in the stage's colour, and a letter where another stage took over.
import { make } from "./dom";
import type { MarkdownBlock } from "./markdown";
import { drawnOffset, type StageRun, type StageRuns } from "./stage-runs";
import { describeSpeakers, type StageLabel } from "./stage-words";

/** Wraps the block's nodes in a frame with its rule. */
export function markBlock({ raw, start, nodes }: MarkdownBlock, runs: StageRuns, labels: readonly StageLabel[]): ChildNode[] {
  const end = start + raw.trimEnd().length;
  const said = runs.within(start, end);
  if (nodes.length === 0 || said.length === 0) return [...nodes];
  const rule = make("span", "said-rule");
  rule.title = describeRule(said, labels);
  rule.style.background = ruleBackground(said, labels);
  const frame = make("div", "said", rule, ...nodes);
  // Backwards, so that inserting a mark does not shift later ones.
  for (const change of runs.changesWithin(start, end).reverse()) {
    const label = labels[change.stage];
    if (label) insertMark(frame, raw, change.start - start, stageMark(label, "from here"));
  }
  return [frame];
}

/** The stage's letter in its colour. The style sheet draws it, so copied text does not contain it. */
export function stageMark({ title, letter, color, contents }: StageLabel, role = ""): HTMLElement {
  const mark = make("span", "stage-mark");
  mark.dataset.letter = letter;
  mark.role = "img";
  mark.ariaLabel = role === "" ? title : `${title} ${role}`;
  mark.title = `${mark.ariaLabel}: ${contents}`;
  mark.style.setProperty("--stage-color", color);
  return mark;
}

function describeRule(said: readonly StageRun[], labels: readonly StageLabel[]): string {
  const stages = [...new Set(said.map(({ stage }) => stage))];
  const [only, ...others] = stages;
  const contents = only !== undefined && others.length === 0 ? `: ${labels[only]?.contents}` : "";
  return `Said ${describeSpeakers(labels, stages)}${contents}`;
}

/** Lines are about equally long, so a share of the characters is the same share of the height. */
function ruleBackground(said: readonly StageRun[], labels: readonly StageLabel[]): string {
  const total = said.reduce((sum, { start, end }) => sum + end - start, 0);
  let from = 0;
  const stops = said.map(({ stage, start, end }) => {
    const to = from + (100 * (end - start)) / total;
    const stop = `${labels[stage]?.color ?? "transparent"} ${from.toFixed(1)}% ${to.toFixed(1)}%`;
    from = to;
    return stop;
  });
  return `linear-gradient(to bottom, ${stops.join(", ")})`;
}

function insertMark(frame: HTMLElement, raw: string, offset: number, mark: HTMLElement): void {
  const texts = textsOf(frame);
  let left = drawnOffset(texts.map(({ data }) => data).join(""), raw, offset);
  for (const text of texts) {
    if (left < text.length) {
      text.splitText(left).before(mark);
      return;
    }
    left -= text.length;
  }
  const last = texts.at(-1);
  if (last) last.after(mark);
  else frame.append(mark);
}

/** The text without the controls that the page adds to code. */
function textsOf(root: HTMLElement): Text[] {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement?.closest(".code-head") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT,
  );
  const texts: Text[] = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) if (node instanceof Text) texts.push(node);
  return texts;
}
