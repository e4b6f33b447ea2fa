// Keeps the newest line visible while an answer grows. After the reader scrolls up it stops, and a button leads back.

const NEAR_PX = 24;

export class BottomFollower {
  readonly #scroller: HTMLElement;
  readonly #toLatest: HTMLButtonElement;
  #isFollowing = true;
  #lastTop = 0;

  constructor({ scroller, content, toLatest }: { scroller: HTMLElement; content: HTMLElement; toLatest: HTMLButtonElement }) {
    this.#scroller = scroller;
    this.#toLatest = toLatest;
    scroller.addEventListener("scroll", () => this.#noteScroll(), { passive: true });
    toLatest.addEventListener("click", () => this.follow());
    const observer = new ResizeObserver(() => this.#settle());
    observer.observe(content);
    observer.observe(scroller); // a phone's keyboard resizes it
  }

  /** Scrolls to the end and stays there. */
  follow(): void {
    this.#isFollowing = true;
    this.#settle();
  }

  #settle(): void {
    if (this.#isFollowing) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#show();
  }

  #noteScroll(): void {
    const { scrollTop } = this.#scroller;
    if (this.#isNearEnd()) this.#isFollowing = true;
    else if (scrollTop < this.#lastTop) this.#isFollowing = false;
    this.#lastTop = scrollTop;
    this.#show();
  }

  #show(): void {
    this.#toLatest.hidden = this.#isFollowing || this.#isNearEnd();
  }

  #isNearEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }
}
