// Holds the one engine of the page: loads it, says how that goes, and lets go of it before the next.
import { type Engine, type EngineEvent, LlmError, loadEngine } from "../src/index";
import { LoadProgress } from "./load-progress";
import { locationOf, type ModelChoice } from "./model-choice";

export type ModelState =
  | { readonly kind: "loading"; readonly choice: ModelChoice; readonly progress: LoadProgress }
  | { readonly kind: "ready"; readonly choice: ModelChoice; readonly progress: LoadProgress; readonly engine: Engine }
  | { readonly kind: "failed"; readonly choice: ModelChoice; readonly reason: string; readonly canRetry: boolean };

export class ModelHost {
  readonly #onChange: (state: ModelState) => void;
  readonly #hubEndpoint: string | null;
  #abort: AbortController | null = null;
  #engine: Engine | null = null;

  constructor({ hubEndpoint, onChange }: { hubEndpoint: string | null; onChange: (state: ModelState) => void }) {
    this.#hubEndpoint = hubEndpoint;
    this.#onChange = onChange;
  }

  /** Puts `choice` in the place of whatever is loaded or loading. */
  async load(choice: ModelChoice): Promise<void> {
    this.#abort?.abort();
    this.#release();
    const abort = new AbortController();
    this.#abort = abort;
    const progress = new LoadProgress();
    const onEvent = (event: EngineEvent) => {
      progress.take(event, performance.now());
      if (event.type === "device-lost" && this.#abort === abort) this.#lose(choice, event.reason);
    };
    this.#onChange({ kind: "loading", choice, progress });
    try {
      const hub = this.#hubEndpoint === null ? {} : { hubEndpoint: this.#hubEndpoint };
      const engine = await loadEngine(locationOf(choice, document.baseURI), { ...hub, signal: abort.signal, onEvent });
      if (abort.signal.aborted) return engine.dispose();
      this.#engine = engine;
      this.#onChange({ kind: "ready", choice, progress, engine });
    } catch (error) {
      if (this.#abort === abort) this.#onChange({ kind: "failed", choice, ...explain(error, abort.signal) });
    }
  }

  cancel(): void {
    this.#abort?.abort();
  }

  #lose(choice: ModelChoice, reason: string): void {
    this.#release();
    const why = `The graphics device was lost (${reason}). Load the model again; the conversation goes on.`;
    this.#onChange({ kind: "failed", choice, reason: why, canRetry: true });
  }

  #release(): void {
    this.#engine?.dispose();
    this.#engine = null;
  }
}

function explain(error: unknown, signal: AbortSignal): { readonly reason: string; readonly canRetry: boolean } {
  if (signal.aborted) return { reason: "Loading was cancelled. What has arrived is kept.", canRetry: true };
  const reason = error instanceof Error ? error.message : String(error);
  return { reason, canRetry: !(error instanceof LlmError && error.code === "no-webgpu") };
}
