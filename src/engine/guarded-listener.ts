// Listeners are the application's: what one throws is told of as an uncaught error, as EventTarget does, and ends nothing of ours.

export function guardedListener<T>(listener: (value: T) => void): (value: T) => void {
  return (value) => {
    try {
      listener(value);
    } catch (error) {
      reportUncaught(error);
    }
  };
}

function reportUncaught(error: unknown): void {
  const rethrow = () => {
    throw error;
  };
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else queueMicrotask(rethrow); // in Node
}
