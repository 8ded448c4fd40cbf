import type { ApiError } from "./api";

/** Stands where an answer will: that it comes, or why it does not. */
export function Waiting({ error, again }: { error: ApiError | undefined; again(): void }) {
  return (
    <div className="empty" role="status">
      <p>{error ? error.message : "Loading."}</p>
      {error && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}
