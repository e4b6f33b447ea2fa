// The conversation on the page.
import { AnswerView } from "./answer-view";
import type { BottomFollower } from "./bottom-follower";
import { element, make } from "./dom";
import { stageMark } from "./stage-marks";
import type { StageLabel } from "./stage-words";

export class ChatView {
  readonly #log = element("log", HTMLElement);
  readonly #column = element("column", HTMLElement);
  readonly #follower: BottomFollower;
  #latest: AnswerView | null = null;

  constructor(follower: BottomFollower) {
    this.#follower = follower;
  }

  /** Shows the question and an empty answer, from a model with these stages. */
  ask(text: string, stages: readonly StageLabel[]): AnswerView {
    const question = make("article", "question", text);
    question.ariaLabel = "You";
    const answer = new AnswerView(stages);
    this.#latest = answer;
    this.#log.append(question, answer.root);
    this.#column.classList.remove("is-empty");
    this.#follower.follow();
    return answer;
  }

  /** Shows what happened, and to which stage: in the answer where it happened, or after the last one. */
  note(text: string, label: StageLabel | null): void {
    const latest = this.#latest;
    if (!latest) return; // an empty conversation needs no notes
    const note = make("p", "stage-note", ...(label ? [stageMark(label)] : []), text);
    if (latest.isGrowing && latest.hasText) latest.addNote(note);
    else if (latest.isGrowing) latest.root.before(note);
    else this.#log.append(note);
  }

  clear(): void {
    this.#latest = null;
    this.#log.replaceChildren();
    this.#column.classList.add("is-empty");
  }
}
