// What an error status of a web server means to whoever asked for a file.
import { LlmError } from "../errors";
import { retryAfterMsOf } from "./http-headers";
import { RetryableError } from "./retry";

/** The cause of an error: the server answered, and said no. */
export class StatusError extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`the server answered ${status}`);
    this.status = status;
  }
}

/** Statuses that bring bytes, or say that there are none at that place. */
export function isServed(status: number): boolean {
  return status === 200 || status === 206 || status === 416;
}

/** The server may answer otherwise in a moment: too busy, or down. */
export function isRetryable(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** Whether the server refused the file, which may mean that it has none: buckets whose files may not be listed answer 403 for 404. */
export function isRefused(error: unknown): error is LlmError {
  return error instanceof LlmError && error.code === "fetch-failed" && error.cause instanceof StatusError;
}

/** "not-found" for 404 and 410, "fetch-failed" for what else is not served. */
export function statusError(url: string, { status, headers }: Response): LlmError | RetryableError {
  const cause = new StatusError(status);
  if (isRetryable(status)) return new RetryableError("fetch-failed", cause.message, { cause, retryAfterMs: retryAfterMsOf(headers) });
  const code = status === 404 || status === 410 ? "not-found" : "fetch-failed";
  return new LlmError(code, `${url}: ${cause.message}. ${adviceOn(status)}`, { cause });
}

function adviceOn(status: number): string {
  switch (status) {
    case 401:
    case 403:
      return (
        "The repository is private, gated or absent: accept its terms on the model's page and pass a token that may read it " +
        '(headers: { Authorization: "Bearer …" }).'
      );
    case 404:
    case 410:
      return "There is no such file: check the names of repository, revision and file.";
    default:
      return "Expected 206 (or 200) and the file's bytes.";
  }
}
