import { useEffect, useId, useRef, type ReactNode } from "react";
import { Icon } from "./icons";

/** A modal dialog: the browser keeps the focus inside, Escape and a click beside it close it. */
export function Dialog({ title, onClose, children, className = "" }: { title: string; onClose(): void; children: ReactNode; className?: string }) {
  const box = useRef<HTMLDialogElement>(null);
  const head = useId();
  useEffect(() => {
    const d = box.current;
    const before = document.activeElement;
    d?.showModal();
    return () => {
      d?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={box}
      className={`dialog ${className}`}
      aria-labelledby={head}
      onCancel={(e) => {
        e.preventDefault();
        onClose();
      }}
      onClick={(e) => e.target === box.current && onClose()}
    >
      <div className="dialogbody">
        <div className="dialoghead">
          <h2 id={head}>{title}</h2>
          <button type="button" className="ghost" aria-label="Close" onClick={onClose}>
            <Icon name="close" />
          </button>
        </div>
        {children}
      </div>
    </dialog>
  );
}
