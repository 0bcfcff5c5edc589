// Installation of models: a form, and a moving bar for each download.

import { Streams } from "./api.js";
import { announce, button, h, iconButton, visible } from "./dom.js";
import { bytes, seconds, shortName } from "./format.js";

const WINDOW = 5;

/** Progress of one download: the layers that the records have named, and the speed of the last seconds. */
export class Download {
	#layers = new Map();
	#samples = [];

	/** Take a record of /api/pull that arrived at `now`, in seconds. */
	take({ digest, total = 0, completed = 0 }, now) {
		if (digest === undefined) return;
		this.#layers.set(digest, { total, completed });
		this.#samples.push({ now, completed: this.completed });
		while (this.#samples.length > 2 && now - this.#samples[0].now > WINDOW) this.#samples.shift();
	}

	get total() {
		return [...this.#layers.values()].reduce((sum, one) => sum + one.total, 0);
	}

	get completed() {
		return [...this.#layers.values()].reduce((sum, one) => sum + one.completed, 0);
	}

	/** Bytes a second, 0 where it is not known yet. */
	get speed() {
		if (this.#samples.length < 2) return 0;
		const [first, last] = [this.#samples[0], this.#samples.at(-1)];
		return last.now - first.now < 0.25 ? 0 : (last.completed - first.completed) / (last.now - first.now);
	}

	get text() {
		const { total, completed, speed } = this;
		if (total === 0) return "";
		const parts = [`${bytes(completed)} of ${bytes(total)}`];
		if (speed > 0 && completed < total) parts.push(`${bytes(speed)}/s`, `${seconds((total - completed) / speed)} left`);
		return parts.join(" · ");
	}
}

const STATUSES = { "pulling manifest": "Reading the manifest", "verifying sha256 digest": "Verifying", "writing manifest": "Finishing", "removing unused layers": "Finishing" };

/** Form and list of the downloads; `onchange()` is called when one has ended. */
export class Pulls {
	#streams = new Streams("pull");
	#name = h("input.field", { name: "model", placeholder: "qwen3:4b", autocomplete: "off", autocapitalize: "none", spellcheck: "false", required: true });
	#insecure = h("input", { type: "checkbox" });
	#list = h("div.pulls");

	constructor(onchange) {
		this.onchange = onchange;
		const form = h("form.pull-form", { onsubmit: (event) => this.#submit(event) },
			h("label.pull-name", h("span", "Install a model"), this.#name),
			button("Install", null, ".primary", { type: "submit" }),
			h("label.pull-insecure", this.#insecure, "from a registry without TLS"),
		);
		this.element = h("section.card", { "aria-label": "Install a model" }, form, this.#list);
	}

	#submit(event) {
		event.preventDefault();
		const name = this.#name.value.trim().replace(/^ollama (?:pull|run) /, "");
		this.#name.value = "";
		if (name !== "") this.#pull(name, this.#insecure.checked);
	}

	async #pull(model, insecure) {
		const label = visible(shortName(model));
		const controller = new AbortController();
		const download = new Download();
		const bar = h("progress", { max: "1", value: "0", "aria-label": `Download of ${label}` });
		const text = h("p.pull-text", "Starting");
		const cancel = iconButton("close", `Cancel the download of ${label}`, () => controller.abort());
		const row = h("div.pull", h("p.pull-title", label), cancel, bar, text);
		this.#list.prepend(row);

		const take = (record) => {
			download.take(record, performance.now() / 1000);
			if (download.total > 0) bar.value = download.completed / download.total;
			text.textContent = [STATUSES[record.status] ?? "Downloading", download.text].filter(Boolean).join(" · ");
		};
		const remove = () => row.remove();
		try {
			const last = await this.#streams.stream({ model, insecure }, take, controller.signal);
			if (last.done_reason === "cancelled") {
				text.textContent = "Cancelled. It goes on where it was when it is installed again.";
			} else {
				bar.value = 1;
				text.textContent = ["Installed", download.total > 0 && bytes(download.total)].filter(Boolean).join(" · ");
				announce(`${label} is installed.`);
				setTimeout(remove, 4000);
			}
		} catch (error) {
			if (error.name === "AbortError") {
				remove();
				return;
			}
			text.replaceChildren(h("span.failure", { role: "alert" }, error.message));
			row.classList.add("failed");
		}
		bar.hidden = row.classList.contains("failed");
		cancel.replaceWith(iconButton("close", `Hide the download of ${label}`, remove));
		await this.onchange();
	}
}
