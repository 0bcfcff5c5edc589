// Figures of the server, from two readings of /metrics.

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Values of one reading in Prometheus's text format, each the sum over the series of its name. */
export class Reading {
	#values = new Map();
	#buckets = new Map();

	constructor(text, time) {
		this.time = time;
		for (const line of text.split("\n")) {
			const found = LINE.exec(line);
			if (found === null) continue;
			const [, name, labels = "", value] = found;
			const number = Number(value);
			if (name.endsWith("_bucket")) this.#addBucket(name.slice(0, -7), labels, number);
			else this.#values.set(name, (this.#values.get(name) ?? 0) + number);
		}
	}

	#addBucket(name, labels, number) {
		const { le } = Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, value]) => [key, value]));
		const buckets = this.#buckets.get(name) ?? new Map();
		this.#buckets.set(name, buckets);
		const bound = le === "+Inf" ? Infinity : Number(le);
		buckets.set(bound, (buckets.get(bound) ?? 0) + number);
	}

	/** Return the sum of the series of `name`. */
	value(name) {
		return this.#values.get(name) ?? 0;
	}

	/** Return the cumulative buckets of a histogram by their upper bounds. */
	buckets(name) {
		return this.#buckets.get(name) ?? new Map();
	}
}

/** Return the rate of a counter between two readings, 0 after a restart of the server. */
export function rateOf(name, before, after) {
	const seconds = after.time - before.time;
	return seconds > 0 ? Math.max(0, (after.value(name) - before.value(name)) / seconds) : 0;
}

/** Return the quantile of what a histogram observed between two readings, null if it was nothing. */
export function quantile(name, share, before, after) {
	const earlier = before.buckets(name);
	const bounds = [...after.buckets(name)].sort(([one], [other]) => one - other);
	const counts = bounds.map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]);
	const all = counts.at(-1)?.[1] ?? 0;
	if (all <= 0) return null;
	const wanted = share * all;
	let [below, seen] = [0, 0];
	for (const [bound, count] of counts) {
		if (count >= wanted) return bound === Infinity ? below : below + ((bound - below) * (wanted - seen)) / Math.max(1, count - seen);
		[below, seen] = [bound, count];
	}
	return below;
}
