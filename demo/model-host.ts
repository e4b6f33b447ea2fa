// Holds the one engine of the page: loads it, says how that goes, and lets go of it before the next.
import { type Engine, type EngineEvent, LlmError, loadEngine } from "../src/index";
import { LoadProgress } from "./load-progress";
import { locationOf, type ModelChoice } from "./model-choice";

export type ModelState =
  | { readonly kind: "loading"; readonly choice: ModelChoice; readonly progress: LoadProgress }
  | { readonly kind: "ready"; readonly choice: ModelChoice; readonly progress: LoadProgress; readonly engine: Engine }
  | { readonly kind: "failed"; readonly choice: ModelChoice; readonly reason: string; readonly canRetry: boolean };

/** One load, from its start until another takes its place. */
interface Load {
  readonly choice: ModelChoice;
  readonly abort: AbortController;
  readonly progress: LoadProgress;
  engine: Engine | null;
}

export class ModelHost {
  readonly #onChange: (state: ModelState) => void;
  readonly #hubEndpoint: string | null;
  #current: Load | null = null;

  constructor({ hubEndpoint, onChange }: { hubEndpoint: string | null; onChange: (state: ModelState) => void }) {
    this.#hubEndpoint = hubEndpoint;
    this.#onChange = onChange;
  }

  /** Puts `choice` in the place of whatever is loaded or loading. */
  async load(choice: ModelChoice): Promise<void> {
    this.#release();
    const progress = new LoadProgress();
    const load: Load = { choice, abort: new AbortController(), progress, engine: null };
    this.#current = load;
    this.#onChange({ kind: "loading", choice, progress });
    try {
      const engine = await this.#loadEngine(load);
      if (this.#current !== load) return engine.dispose();
      load.engine = engine;
      this.#onChange({ kind: "ready", choice, progress, engine });
    } catch (error) {
      if (this.#current !== load) return; // cancelled, or another one has taken its place
      const canRetry = !(error instanceof LlmError && error.code === "no-webgpu");
      this.#fail(load, error instanceof Error ? error.message : String(error), canRetry);
    }
  }

  /** Gives up what is loading: at once for the reader, although a driver may still be compiling for it. */
  cancel(): void {
    const load = this.#current;
    if (load && !load.engine) this.#fail(load, "Loading was cancelled. What has arrived is kept in this browser.");
  }

  #loadEngine(load: Load): Promise<Engine> {
    const onEvent = (event: EngineEvent) => {
      load.progress.take(event, performance.now());
      if (event.type !== "device-lost" || this.#current !== load) return;
      this.#fail(load, `The graphics device was lost (${event.reason}). Load the model again; the conversation goes on.`);
    };
    const hub = this.#hubEndpoint === null ? {} : { hubEndpoint: this.#hubEndpoint };
    return loadEngine(locationOf(load.choice, document.baseURI), { ...hub, signal: load.abort.signal, onEvent });
  }

  #fail({ choice }: Load, reason: string, canRetry = true): void {
    this.#release();
    this.#onChange({ kind: "failed", choice, reason, canRetry });
  }

  #release(): void {
    this.#current?.abort.abort();
    this.#current?.engine?.dispose();
    this.#current = null;
  }
}
