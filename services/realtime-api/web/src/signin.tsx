import { useState } from "react";
import { ApiError } from "./api";
import { Bell } from "./icons";
import { signIn } from "./session";

/** Asks for a token and makes a session of it. The token is not kept: the session is a cookie that scripts cannot read. */
export function SignIn() {
  const [token, setToken] = useState("");
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  const go = async () => {
    setBusy(true);
    setWrong("");
    try {
      await signIn(token.trim());
    } catch (e) {
      setWrong(e instanceof ApiError ? (e.status === 401 ? "Nobody has this token." : e.message) : String(e));
      setBusy(false);
    }
  };
  return (
    <main className="signin">
      <form
        onSubmit={(e) => {
          e.preventDefault();
          void go();
        }}
      >
        <Bell />
        <h1>Tocsin</h1>
        <label>
          <span>Your token</span>
          <input type="password" autoComplete="current-password" autoFocus value={token} onChange={(e) => setToken(e.target.value)} aria-describedby="signin-wrong" />
        </label>
        <p id="signin-wrong" role="alert" className="wrong">
          {wrong}
        </p>
        <button type="submit" className="primary" disabled={busy || !token.trim()}>
          Sign in
        </button>
        <p className="hint">Who may look is listed in the server's configuration, realtime_api.auth.people.</p>
      </form>
    </main>
  );
}
