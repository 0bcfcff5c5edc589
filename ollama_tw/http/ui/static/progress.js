// Records of a stream before the first piece of the output.

import { count } from "./format.js";

/** Return what a record reports, in words and as a share; null if it reports no progress. */
export function phaseOf({ queue, load, prefill }) {
	if (queue) return [`Waiting, number ${queue.position} of ${queue.waiting} in the queue`, null];
	if (load) return [`Loading the model, ${load.percent} %`, load.percent / 100];
	if (prefill) return [`Reading the prompt, ${count(prefill.done)} of ${count(prefill.total)} tokens`, prefill.percent / 100];
	return null;
}
