// The demo page: a chat with a model that runs in this tab. Puts the parts together and owns no logic of its own.
//
// ?model=  "owner/name", "owner/name/file.gguf" or a URL, in place of the embedded model
// ?hub=    another hub's address, in place of https://huggingface.co
import { BottomFollower } from "./bottom-follower";
import { ChatView } from "./chat-view";
import { Composer } from "./composer";
import { Conversation } from "./conversation";
import { element } from "./dom";
import { takeDrops } from "./drop-zone";
import { IntroView } from "./intro-view";
import { LoaderView } from "./loader-view";
import { type ModelChoice, readAddress, titleOf, writeAddress } from "./model-choice";
import { ModelDialog } from "./model-dialog";
import { ModelHost, type ModelState } from "./model-host";
import { pageStorage, SettingsStore } from "./settings";
import { SettingsDialog } from "./settings-dialog";

const { choice: firstChoice, hubEndpoint } = readAddress(new URL(location.href));
let current: ModelChoice = firstChoice;
let state: ModelState["kind"] = "loading";
let isSameModel = false;

const follower = new BottomFollower({
  scroller: element("scroller", HTMLElement),
  content: element("column", HTMLElement),
  toLatest: element("to-latest", HTMLButtonElement),
});
const store = new SettingsStore(pageStorage());
const conversation = new Conversation({ view: new ChatView(follower), settings: () => store.current, onChange: showComposer });
const composer = new Composer({ onSend: ask, onStop: () => conversation.stop() });
const intro = new IntroView({ onSuggestion: ask });
const host = new ModelHost({ hubEndpoint, onChange: showModel });
const models = new ModelDialog({ hubEndpoint, onChoose: choose });
const settings = new SettingsDialog({ store, onClose: () => conversation.restartIfEmpty() });
const loader = new LoaderView({ onRetry: retry, onOther: () => models.open(), onCancel: () => host.cancel() });

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

function retry(): void {
  void host.load(current);
}

function ask(text: string): void {
  void conversation.ask(text);
}

function showModel(next: ModelState): void {
  state = next.kind;
  element("model-name", HTMLElement).textContent = titleOf(next.choice);
  loader.show(next);
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

function showComposer(): void {
  if (state !== "ready") composer.show("unavailable", state === "loading" ? "The model is on its way" : "No model is loaded");
  else composer.show(conversation.isAnswering ? "answering" : "ready", "Write a message");
}
