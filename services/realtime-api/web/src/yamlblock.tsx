import { useState } from "react";
import { say } from "./toast";

/** A piece of configuration to take along. */
export function YamlBlock({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      say("The browser does not let this page copy: mark the text instead.", true);
    }
  };
  return (
    <div className="yamlblock">
      <pre tabIndex={0} aria-label="Configuration">
        {text}
      </pre>
      <button type="button" onClick={() => void copy()}>
        {copied ? "Copied" : "Copy"}
      </button>
    </div>
  );
}
