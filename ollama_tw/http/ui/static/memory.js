// Memory by model and of the prompt cache, as bars.

import { h, visible } from "./dom.js";
import { bytes, shortName } from "./format.js";

const sum = (parts) => parts.reduce((one, other) => one + other, 0);

/** Card with a bar for each loaded model, and one for the states of models that were unloaded. */
export class Memory {
	#rows = h("div.memory-rows");

	constructor() {
		const legend = h("span.legend", { "aria-hidden": "true" }, ["GPU", "main memory", "prompt cache"].map((name, at) => h("span", { class: `part-${at}` }, name)));
		this.element = h("section.card", { "aria-label": "Memory by model" }, h("h2", "Memory by model", legend), this.#rows);
	}

	/** Show `models`, those of /api/ps; `saved` are the bytes of all saved states. */
	show(models, saved) {
		const rows = models.map(({ name, size, size_vram: gpu = 0, size_prompt_cache: cache = 0 }) => ({ name: shortName(name), parts: [gpu, Math.max(0, size - gpu), cache] }));
		const parked = saved - sum(models.map(({ size_prompt_cache: cache = 0 }) => cache));
		if (parked > 0) rows.push({ name: "Prompts of unloaded models", parts: [0, 0, parked] });
		const most = Math.max(1, ...rows.map(({ parts }) => sum(parts)));
		if (rows.length === 0) this.#rows.replaceChildren(h("p.nothing", "No model is in memory."));
		else this.#update(rows.map(({ name, parts }) => ({ name, parts, shares: parts.map((part) => part / most), text: bytes(sum(parts)) })));
	}

	/** Change the rows in place, so that the bars move. */
	#update(rows) {
		const known = new Map([...this.#rows.children].map((row) => [row.dataset.name, row]));
		const wanted = rows.map(({ name, parts, shares, text }) => {
			const row = known.get(name) ?? h("div.memory-row", { "data-name": name }, h("span.memory-name", visible(name)), h("span.memory-size"), h("div.bar", { role: "img" }, parts.map((_, at) => h("span", { class: `part-${at}` }))));
			const [, size, bar] = row.children;
			size.textContent = text;
			bar.setAttribute("aria-label", `${name}: ${bytes(parts[0])} on the GPU, ${bytes(parts[1])} in main memory, ${bytes(parts[2])} of prompt cache`);
			[...bar.children].forEach((part, at) => {
				part.style.width = `${(100 * shares[at]).toFixed(2)}%`;
				part.hidden = shares[at] === 0;
			});
			return row;
		});
		this.#rows.replaceChildren(...wanted);
	}
}
