/** What the server answers when it refuses: problem details (RFC 9457). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly field: string,
  ) {
    super(detail || title);
  }
}

type Query = Record<string, string | number | boolean | undefined>;

const timeoutMs = 20_000;

/** Told when a request was refused for want of a session. */
let unauthorized: () => void = () => {};
export const onUnauthorized = (f: () => void) => {
  unauthorized = f;
};

async function request<T>(path: string, init: RequestInit, signal?: AbortSignal): Promise<T> {
  const limit = AbortSignal.timeout(timeoutMs);
  let r: Response;
  try {
    r = await fetch(path, { ...init, credentials: "same-origin", signal: signal ? AbortSignal.any([signal, limit]) : limit });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new ApiError(0, "No answer", limit.aborted ? "The server took too long to answer." : "The server cannot be reached.", "");
  }
  if (r.ok) return (r.status === 204 ? undefined : await r.json()) as T;
  if (r.status === 401) unauthorized();
  const problem = (await r.json().catch(() => ({}))) as { title?: string; detail?: string; field?: string; parameter?: string };
  throw new ApiError(r.status, problem.title ?? `Error ${r.status}`, problem.detail ?? "", problem.field ?? problem.parameter ?? "");
}

function address(path: string, query: Query): string {
  const given = Object.entries(query).filter((e): e is [string, string | number | boolean] => e[1] !== undefined && e[1] !== "");
  const search = new URLSearchParams(given.map(([k, v]) => [k, String(v)])).toString();
  return search ? `${path}?${search}` : path;
}

export const get = <T>(path: string, query: Query = {}, signal?: AbortSignal) => request<T>(address(path, query), {}, signal);

/** Sends JSON. What changes something has a key, so that the same act sent twice counts once. */
export const send = <T>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown, key?: string, signal?: AbortSignal) =>
  request<T>(
    path,
    {
      method,
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...(key ? { "Idempotency-Key": key } : {}) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    },
    signal,
  );
