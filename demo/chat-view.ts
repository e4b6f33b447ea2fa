// The conversation on the page.
import { AnswerView } from "./answer-view";
import type { BottomFollower } from "./bottom-follower";
import { element, make } from "./dom";

export class ChatView {
  readonly #log = element("log", HTMLElement);
  readonly #column = element("column", HTMLElement);
  readonly #follower: BottomFollower;

  constructor(follower: BottomFollower) {
    this.#follower = follower;
  }

  /** Shows the question, and an answer that is still to come. */
  ask(text: string): AnswerView {
    const question = make("article", "question", text);
    question.ariaLabel = "You";
    const answer = new AnswerView();
    this.#log.append(question, answer.root);
    this.#column.classList.remove("is-empty");
    this.#follower.follow();
    return answer;
  }

  clear(): void {
    this.#log.replaceChildren();
    this.#column.classList.add("is-empty");
  }
}
