// Owns the page's single chat, and carries it over when its engine is loaded again.
import type { Answer, Chat, Engine, StageEvent } from "../src/index";
import type { AnswerView } from "./answer-view";
import type { ChatView } from "./chat-view";
import type { Settings } from "./settings";
import { describeTakeover, type StageLabel, stageLabels } from "./stage-words";

export class Conversation {
  readonly #view: ChatView;
  readonly #settings: () => Settings;
  readonly #onChange: () => void;
  #engine: Engine | null = null;
  #stages: readonly StageLabel[] = [];
  #chat: Chat | null = null;
  #abort: AbortController | null = null;
  #settled: Promise<void> = Promise.resolve();

  /** @param onChange Called when an answer has begun or ended. */
  constructor({ view, settings, onChange }: { view: ChatView; settings: () => Settings; onChange: () => void }) {
    this.#view = view;
    this.#settings = settings;
    this.#onChange = onChange;
  }

  get isAnswering(): boolean {
    return this.#abort !== null;
  }

  /** Answers with `engine` from now on. The messages stay if it is the same model, loaded again. */
  attach(engine: Engine, { keepMessages }: { readonly keepMessages: boolean }): void {
    const said = keepMessages ? (this.#chat?.messages ?? []) : [];
    if (!keepMessages) this.#view.clear();
    this.#engine = engine;
    this.#stages = stageLabels(engine.plan);
    this.#chat = this.#createChat(said.filter(({ role }) => role !== "system"));
  }

  /** Detaches the engine; the messages stay. */
  detach(): void {
    this.stop();
    this.#engine = null;
  }

  /** Notes in the chat that a later stage of the engine has taken over. */
  noteTakeover(event: Extract<StageEvent, { type: "upgrade-end" }>): void {
    const label = this.#stages[event.stage.index];
    if (this.#engine && label) this.note(describeTakeover(this.#engine.plan, event), label);
  }

  /** Adds a note about the model at the current point of the conversation. */
  note(text: string, label: StageLabel | null = null): void {
    this.#view.note(text, label);
  }

  restart(): void {
    this.stop();
    const old = this.#chat;
    void this.#settled.then(() => old?.dispose()); // not while an answer still runs
    this.#chat = this.#createChat();
    this.#view.clear();
  }

  /** Applies new settings if the chat has no messages yet. */
  restartIfEmpty(): void {
    if (!this.#abort && !this.#chat?.messages.some(({ role }) => role === "user")) this.restart();
  }

  stop(): void {
    this.#abort?.abort();
  }

  /** Resolves when the answer has ended in any way. */
  ask(text: string): Promise<void> {
    if (!this.#engine || this.#abort) return Promise.resolve();
    const abort = new AbortController();
    this.#abort = abort;
    this.#settled = this.#answer(text, this.#view.ask(text, this.#stages), abort.signal).finally(() => {
      this.#abort = null;
      this.#onChange();
    });
    this.#onChange();
    return this.#settled;
  }

  async #answer(text: string, view: AnswerView, signal: AbortSignal): Promise<void> {
    try {
      const { maxTokens } = this.#settings();
      const answer = this.#send(text, signal);
      for await (const { text: piece, stage } of answer) view.append(piece, stage);
      view.finish(await answer.finished, maxTokens);
    } catch (error) {
      if (signal.aborted) view.stopped();
      else view.failed(error instanceof Error ? error.message : String(error));
    }
  }

  #send(text: string, signal: AbortSignal): Answer {
    const { temperature, topP, maxTokens } = this.#settings();
    const options = { temperature, topP, maxTokens, signal };
    if (this.#chat) return this.#chat.send(text, options);
    if (!this.#engine) throw new Error("No model is loaded.");
    return this.#engine.completeText(text, options);
  }

  /** Null for a model without a chat template, which continues texts instead. */
  #createChat(messages: Chat["messages"] = []): Chat | null {
    if (!this.#engine?.tokenizer.chatTemplate) return null;
    const { system } = this.#settings();
    return this.#engine.createChat({ messages, ...(system.trim() !== "" && { system }) });
  }
}
