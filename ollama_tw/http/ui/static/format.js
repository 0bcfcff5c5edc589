// Numbers for people: the page's language is English, its separators are too.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** Return a count with separators of thousands. */
export const count = (value) => WHOLE.format(value);

/** Return a rate: with a decimal below 100. */
export const rate = (value) => (value < 100 ? TENTHS : WHOLE).format(value);

/** Return a number and its noun, `1 token`, `2 tokens`. */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/** Return bytes in decimal units, as `ollama list` has them. */
export function bytes(value) {
	const units = ["B", "KB", "MB", "GB", "TB"];
	let at = 0;
	while (value >= 1000 && at < units.length - 1) {
		value /= 1000;
		at += 1;
	}
	return `${at > 0 && value < 10 ? TENTHS.format(value) : count(value)} ${units[at]}`;
}

/** Return a duration in the unit that suits it. */
export function seconds(value) {
	if (value < 1) return `${count(value * 1000)} ms`;
	if (value < 60) return `${TENTHS.format(value)} s`;
	if (value < 600) return `${count(Math.floor(value / 60))} min ${count(value % 60)} s`;
	if (value < 3600) return `${count(Math.round(value / 60))} min`;
	if (value < 172800) return `${count(Math.floor(value / 3600))} h ${count(Math.floor((value % 3600) / 60))} min`;
	return counted(Math.floor(value / 86400), "day");
}

/** Return the duration of a record in seconds; it is in nanoseconds there. */
export const fromNanoseconds = (value) => (value ?? 0) / 1e9;

/** Return the short name of a model: without the tag that it has anyway. */
export const shortName = (name) => name.replace(/:latest$/, "");
