// Owns the page's single engine: loads it, reports progress, and disposes of it before the next.
import { type Engine, type EngineEvent, LlmError, type LoadOptions, loadEngine } from "../src/index";
import { LoadProgress } from "./load-progress";
import { locationOf, type ModelChoice } from "./model-choice";
import { StageProgress } from "./stage-progress";
import type { LinkThrottle } from "./throttled-fetch";

export type ModelState =
  | { readonly kind: "loading"; readonly choice: ModelChoice; readonly progress: LoadProgress; readonly stages: StageProgress }
  /** The model can answer, with at least its first stage; later stages may still be loading. */
  | {
      readonly kind: "ready";
      readonly choice: ModelChoice;
      readonly progress: LoadProgress;
      readonly stages: StageProgress;
      readonly engine: Engine;
    }
  | { readonly kind: "failed"; readonly choice: ModelChoice; readonly reason: string; readonly canRetry: boolean };

/** One load, from its start until another replaces it. */
interface Load {
  readonly choice: ModelChoice;
  readonly abort: AbortController;
  readonly progress: LoadProgress;
  readonly stages: StageProgress;
  engine: Engine | null;
}

const NEWS = /^(stages?|upgrade|delivery|device)-/; // rare enough to draw at once

export interface ModelHostOptions {
  readonly hubEndpoint: string | null;
  readonly plan: "auto" | "whole";
  /** All downloads go through it. */
  readonly link: LinkThrottle;
  readonly onChange: (state: ModelState) => void;
  /** Called for stage and device events, after the state's progress has processed them. */
  readonly onNews: (event: EngineEvent) => void;
}

export class ModelHost {
  readonly #options: ModelHostOptions;
  #current: Load | null = null;

  constructor(options: ModelHostOptions) {
    this.#options = options;
  }

  /** Loads `choice` instead of whatever is loaded or loading. */
  async load(choice: ModelChoice): Promise<void> {
    this.#release();
    const progress = new LoadProgress();
    const stages = new StageProgress(performance.now());
    const load: Load = { choice, abort: new AbortController(), progress, stages, engine: null };
    this.#current = load;
    this.#options.onChange({ kind: "loading", choice, progress, stages });
    try {
      const engine = await this.#loadEngine(load);
      if (this.#current !== load) return engine.dispose();
      load.engine = engine;
      this.#options.onChange({ kind: "ready", choice, progress, stages, engine });
    } catch (error) {
      if (this.#current !== load) return; // cancelled, or replaced by another load
      const canRetry = !(error instanceof LlmError && error.code === "no-webgpu");
      this.#fail(load, error instanceof Error ? error.message : String(error), canRetry);
    }
  }

  /** Cancels the load: at once for the visitor, although the driver may still be compiling. */
  cancel(): void {
    const load = this.#current;
    if (!load || load.engine) return;
    const kept = this.#keepsCopies ? " What has arrived is kept in this browser." : "";
    this.#fail(load, `Loading was cancelled.${kept}`);
  }

  /** Stops loading later stages; the current one keeps answering. */
  pauseDelivery(): void {
    this.#current?.engine?.pauseDelivery();
  }

  /** Continues after a pause or a failure. */
  resumeDelivery(): void {
    this.#current?.stages.retry();
    this.#current?.engine?.resumeDelivery();
  }

  /** While throttled, all bytes come over the network; otherwise there would be nothing to watch. */
  get #keepsCopies(): boolean {
    return this.#options.link.megabitsPerSecond === null;
  }

  #loadEngine(load: Load): Promise<Engine> {
    const { hubEndpoint, plan, link } = this.#options;
    const options: LoadOptions = {
      plan,
      fetch: link.fetch,
      ...(hubEndpoint !== null && { hubEndpoint }),
      ...(!this.#keepsCopies && { cache: false }),
      signal: load.abort.signal,
      onEvent: (event) => this.#take(load, event),
    };
    return loadEngine(locationOf(load.choice, document.baseURI), options);
  }

  #take(load: Load, event: EngineEvent): void {
    const nowMs = performance.now();
    load.progress.take(event, nowMs);
    load.stages.take(event, nowMs);
    if (this.#current !== load) return;
    const advice = "Load the model again; the conversation goes on.";
    if (event.type === "device-lost" && !load.engine) this.#fail(load, `The graphics device was lost (${event.reason}). ${advice}`);
    else if (event.type === "device-recovery-failed") this.#fail(load, `The graphics device was lost, and there is no other. ${advice}`);
    else if (NEWS.test(event.type)) this.#options.onNews(event);
  }

  #fail({ choice }: Load, reason: string, canRetry = true): void {
    this.#release();
    this.#options.onChange({ kind: "failed", choice, reason, canRetry });
  }

  #release(): void {
    this.#current?.abort.abort();
    this.#current?.engine?.dispose();
    this.#current = null;
  }
}
