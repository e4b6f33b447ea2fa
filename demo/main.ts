// The demo page: a chat with a model that runs in this tab. Connects the parts and has no logic of its own.
//
// ?model=  "owner/name", "owner/name/file.gguf" or a URL, in place of the embedded model
// ?hub=    another hub's address, in place of https://huggingface.co
// ?link=   Mbit/s to throttle downloads to; also bypasses the browser's cache
// ?plan=   "whole" loads all of the model before it answers, for comparison
import type { EngineEvent } from "../src/index";
import { BottomFollower } from "./bottom-follower";
import { ChatView } from "./chat-view";
import { Composer } from "./composer";
import { Conversation } from "./conversation";
import { element } from "./dom";
import { takeDrops } from "./drop-zone";
import { IntroView } from "./intro-view";
import { readLinkSpeed, writeLinkSpeed } from "./link-speed";
import { LoaderView } from "./loader-view";
import { type ModelChoice, readAddress, readPlan, titleOf, writeAddress } from "./model-choice";
import { ModelDialog } from "./model-dialog";
import { ModelHost, type ModelState } from "./model-host";
import { pageStorage, SettingsStore } from "./settings";
import { SettingsDialog } from "./settings-dialog";
import { StageView } from "./stage-view";
import { describeRecovery } from "./stage-words";
import { LinkThrottle } from "./throttled-fetch";

const { choice: firstChoice, hubEndpoint } = readAddress(new URL(location.href));
let current: ModelChoice = firstChoice;
let state: ModelState | null = null;
let isSameModel = false;

const follower = new BottomFollower({
  scroller: element("scroller", HTMLElement),
  content: element("column", HTMLElement),
  toLatest: element("to-latest", HTMLButtonElement),
});
const link = new LinkThrottle();
link.setSpeed(readLinkSpeed(new URL(location.href)));
const store = new SettingsStore(pageStorage());
const conversation = new Conversation({ view: new ChatView(follower), settings: () => store.current, onChange: showComposer });
const composer = new Composer({ onSend: ask, onStop: () => conversation.stop() });
const intro = new IntroView({ onSuggestion: ask });
const plan = readPlan(new URL(location.href));
const host = new ModelHost({ hubEndpoint, plan, link, onChange: showModel, onNews: showNews });
const stages = new StageView({ onPause: () => host.pauseDelivery(), onResume: () => host.resumeDelivery() });
const models = new ModelDialog({ hubEndpoint, onChoose: choose });
const settings = new SettingsDialog({
  store,
  link,
  onLinkSpeed: setLinkSpeed,
  onReload: reload,
  onClose: () => conversation.restartIfEmpty(),
});
const loader = new LoaderView({ onRetry: reload, onOther: () => models.open(), onCancel: () => host.cancel() });

element("open-models", HTMLButtonElement).addEventListener("click", () => models.open());
element("open-settings", HTMLButtonElement).addEventListener("click", () => settings.open());
element("new-chat", HTMLButtonElement).addEventListener("click", () => {
  conversation.restart();
  composer.focus();
});
takeDrops((files) => choose({ kind: "files", files }));
void host.load(firstChoice);

function choose(choice: ModelChoice): void {
  current = choice;
  isSameModel = false;
  history.replaceState(null, "", writeAddress(new URL(location.href), choice));
  void host.load(choice);
}

function reload(): void {
  void host.load(current);
}

function setLinkSpeed(megabitsPerSecond: number | null): void {
  link.setSpeed(megabitsPerSecond);
  history.replaceState(null, "", writeLinkSpeed(new URL(location.href), megabitsPerSecond));
}

function ask(text: string): void {
  void conversation.ask(text);
}

function showModel(next: ModelState): void {
  state = next;
  element("model-name", HTMLElement).textContent = titleOf(next.choice);
  loader.show(next);
  stages.show(next);
  intro.show(next);
  if (next.kind === "ready") {
    conversation.attach(next.engine, { keepMessages: isSameModel });
    isSameModel = true;
    composer.focus();
  } else {
    conversation.detach();
  }
  showComposer();
}

function showNews(event: EngineEvent): void {
  stages.refresh();
  if (event.type === "upgrade-end") conversation.noteTakeover(event);
  if (event.type === "device-restored") conversation.note(describeRecovery(event.recoveryMs));
  if (event.type === "stage-ready" && state) intro.show(state);
}

function showComposer(): void {
  if (state?.kind !== "ready") composer.show("unavailable", state?.kind === "failed" ? "No model is loaded" : "The model is on its way");
  else composer.show(conversation.isAnswering ? "answering" : "ready", "Write a message");
}
