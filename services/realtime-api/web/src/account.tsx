import { useEffect, useState } from "react";
import { ApiError } from "./api";
import { Dialog } from "./dialog";
import { Icon } from "./icons";
import { installable, install, useInstallable } from "./pwa";
import { pushState, subscribePush, unsubscribePush, type PushState } from "./push";
import { say } from "./toast";
import { signOut, useFeature, useSession } from "./session";

/** Who looks, pages to this device, installing. */
export function Account({ onClose }: { onClose(): void }) {
  const k = useSession();
  const router = useFeature("router");
  useInstallable();
  return (
    <Dialog title="You and this device" onClose={onClose}>
      {k.state === "known" && (
        <section className="account">
          <h3>{k.session.anonymous ? "Nobody is signed in" : k.session.name}</h3>
          <p className="hint">
            {k.session.all_machines ? "Sees all machines." : `Sees ${k.session.equipment.join(", ")}.`}
            {k.session.expires_at_ms > 0 && ` The session ends ${new Date(k.session.expires_at_ms).toLocaleString()}.`}
          </p>
          {!k.session.anonymous && (
            <button
              type="button"
              onClick={() => void signOut().catch((e: unknown) => say(message(e), true))}
            >
              Sign out
            </button>
          )}
        </section>
      )}
      <section className="account">
        <h3>Pages to this device</h3>
        {router ? <Push /> : <p className="hint">No alert-router stands behind this page (realtime_api.backends.alert_router).</p>}
      </section>
      <section className="account">
        <h3>Install</h3>
        {installable() ? (
          <button type="button" onClick={() => void install()}>
            <Icon name="download" size={14} /> Install Tocsin
          </button>
        ) : (
          <p className="hint">
            {window.matchMedia("(display-mode: standalone)").matches
              ? "Installed."
              : window.isSecureContext
                ? "Your browser's menu offers to install this page; it then opens without a connection too."
                : "Needs HTTPS, or this machine's own address."}
          </p>
        )}
      </section>
    </Dialog>
  );
}

function Push() {
  const [state, setState] = useState<PushState | undefined>();
  const [wrong, setWrong] = useState("");
  const [receiver, setReceiver] = useState("");
  const refresh = () => pushState().then(setState, (e: unknown) => setWrong(message(e)));
  useEffect(() => void refresh(), []);
  const act = (what: () => Promise<void>) => {
    setWrong("");
    what().then(refresh, (e: unknown) => setWrong(message(e)));
  };
  if (wrong && !state) return <p className="wrong">{wrong}</p>;
  if (!state) return <p className="hint">Asking.</p>;
  if (state.why) return <p className="hint">{state.why}</p>;
  const chosen = state.keys.find((x) => x.receiver === receiver) ?? state.keys[0];
  return (
    <>
      {state.mine ? (
        <p>
          Pages for <b>{state.mine.receiver}</b> are shown on this device.{" "}
          <button type="button" onClick={() => act(() => unsubscribePush(state))}>
            Stop
          </button>
        </p>
      ) : (
        <p className="row">
          {state.keys.length > 1 && (
            <select aria-label="Receiver" value={chosen?.receiver} onChange={(e) => setReceiver(e.target.value)}>
              {state.keys.map((x) => (
                <option key={x.receiver}>{x.receiver}</option>
              ))}
            </select>
          )}
          <button type="button" className="primary" onClick={() => chosen && act(() => subscribePush(chosen))}>
            Show pages for {chosen?.receiver}
          </button>
        </p>
      )}
      {state.others > 0 && <p className="hint">{state.others === 1 ? "One other device of yours is subscribed." : `${state.others} other devices of yours are subscribed.`}</p>}
      {wrong && (
        <p className="wrong" role="alert">
          {wrong}
        </p>
      )}
    </>
  );
}

const message = (e: unknown) => (e instanceof ApiError || e instanceof Error ? e.message : String(e));
