import { Dialog } from "./dialog";
import { useShortcutGroups } from "./keys";

/** The shortcuts that hold now. */
export function Help({ onClose }: { onClose(): void }) {
  const groups = useShortcutGroups();
  return (
    <Dialog title="Keyboard" onClose={onClose} className="help">
      {groups.map((g) => (
        <section key={g.title}>
          <h3>{g.title}</h3>
          <dl>
            {g.shortcuts.map((s) => (
              <div key={s.keys}>
                <dt>
                  {s.keys.split(" ").map((k, i) => (
                    <kbd key={i}>{k}</kbd>
                  ))}
                </dt>
                <dd>{s.label}</dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
    </Dialog>
  );
}
