// Line charts as SVG: a point a second, slid to the left by its width.

import { h, svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 72;
const PADDING = 4;

/** Number of points that a chart shows. */
export const POINTS = 60;

const STEP = WIDTH / (POINTS - 1);
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Return the upper end of an axis for values up to `value`: a round number. */
function ceiling(value, least) {
	if (value <= least) return least;
	const power = 10 ** Math.floor(Math.log10(value));
	return [1, 2, 3, 4, 6, 8, 10].map((factor) => factor * power).find((end) => end >= value);
}

/** Card with a figure and the chart of its last minute. */
export class Chart {
	#series;
	#format;
	#least;
	#value = h("span.value", "–");
	#note = h("p.chart-note", "");
	#moving = svg("g");
	#lines;
	#top = h("span.axis", { "aria-hidden": "true" });

	/**
	 * `series` are the names of the lines, the first with an area below it; `format` writes a value; the axis
	 * ends at `least` or above.
	 */
	constructor(title, series, format, least = 1) {
		this.#series = series.map(() => []);
		this.#format = format;
		this.#least = least;
		this.#lines = series.map((_, at) => ({ line: svg("path", { class: `line series-${at}` }), area: at === 0 ? svg("path", { class: "area" }) : null }));
		for (const { line, area } of [...this.#lines].reverse()) this.#moving.append(...[area, line].filter(Boolean));
		const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.#moving);
		const legend = series.length > 1 && h("span.legend", { "aria-hidden": "true" }, series.map((name, at) => h("span", { class: `series-${at}` }, name)));
		this.element = h("section.card.chart", { "aria-label": title },
			h("h2", title, legend),
			this.#value,
			this.#note,
			h("div.plot", drawing, this.#top),
		);
	}

	/** Add a point: a value of each line, null where there is none. `text` and `note` are shown above the chart. */
	add(values, text, note = "", least = this.#least) {
		this.#least = least;
		this.#value.textContent = text;
		this.#note.textContent = note;
		this.#series.forEach((points, at) => {
			points.push(values[at]);
			// One more than is shown: it leaves on the left while the newest comes in on the right.
			if (points.length > POINTS + 1) points.shift();
		});
		this.#draw();
		if (!still.matches) this.#moving.animate([{ transform: `translateX(${STEP}px)` }, { transform: "none" }], { duration: 1000, easing: "linear" });
	}

	#draw() {
		const top = ceiling(Math.max(0, ...this.#series.flat().filter((value) => value !== null)), this.#least);
		this.#top.textContent = this.#format(top).replace(".0", "");
		this.#series.forEach((points, at) => {
			const last = points.length - 1;
			const y = (value) => (HEIGHT - PADDING - (value / top) * (HEIGHT - 2 * PADDING)).toFixed(1);
			const x = (index) => (WIDTH - (last - index) * STEP).toFixed(1);
			let path = "";
			let [first, end] = [null, null];
			points.forEach((value, index) => {
				if (value === null) return;
				// Points without a value are bridged.
				path += `${path === "" ? "M" : "L"}${x(index)} ${y(value)}`;
				first ??= x(index);
				end = x(index);
			});
			this.#lines[at].line.setAttribute("d", path);
			this.#lines[at].area?.setAttribute("d", path === "" ? "" : `${path}L${end} ${HEIGHT}L${first} ${HEIGHT}Z`);
		});
	}
}
