import { useEffect, useRef } from "react";
import { App } from "./app";
import { forgetState } from "./kept";
import { refreshSession, useSession } from "./session";
import { SignIn } from "./signin";
import { start, stop, useData } from "./store";

/** The application for whom the server knows, or who looks at what was kept while it is away; for others the way in. */
export function Root() {
  const session = useSession();
  const data = useData();
  const started = useRef(false);
  const stranger = session.state === "stranger";
  useEffect(() => {
    if (session.state === "known" || session.state === "unreachable") {
      if (!started.current) start();
      started.current = true;
    } else if (stranger) {
      if (started.current) stop();
      else void forgetState();
    }
  }, [session.state, stranger]);
  // A connection that ended may have ended because the session did, or the server came back as another.
  const { link } = data;
  const lost = link.state === "lost" ? link.attempt : 0;
  useEffect(() => {
    if (lost > 0 || (link.state === "live" && session.state === "unreachable")) void refreshSession();
  }, [lost, link.state, session.state]);
  // What was started is ended by loading the page anew: who is asked before that would have to begin again.
  if (stranger) return started.current ? null : <SignIn />;
  if (session.state === "asking") return null;
  return <App />;
}
