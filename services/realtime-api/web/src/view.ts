import type { ComponentType } from "react";
import type { Data } from "./store";

export interface ViewProps {
  data: Data;
  /** What follows the view's path in the address, decoded: #/machine/press-1 gives ["press-1"]. */
  params: string[];
  query: URLSearchParams;
}

/** One page of the application. */
export interface View {
  /** First segment of the hash; "" is the fleet. */
  path: string;
  title(params: string[]): string;
  /** Where it stands in the navigation, if it does; its key follows g: "g a". */
  nav?: { label: string; key: string; badge?(data: Data): number };
  component: ComponentType<ViewProps>;
}
