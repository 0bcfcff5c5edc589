// Models of the server.

import { Streams, getJSON, request } from "./api.js";
import { confirm, prompt } from "./dialogs.js";
import { Problem, announce, button, h, iconButton, visible } from "./dom.js";
import { bytes, seconds, shortName } from "./format.js";
import { openDetails } from "./details.js";
import { phaseOf } from "./progress.js";
import { Pulls } from "./pulls.js";

const REFRESH = 5000;
const MANY = 7;
const FOREVER = 50 * 365 * 86400;

const onlyEmbeds = (capabilities = []) => capabilities.includes("embedding") && !capabilities.includes("completion");

/** Return how long a loaded model stays, in words. */
function remaining(expires) {
	const left = (Date.parse(expires) - Date.now()) / 1000;
	if (left > FOREVER) return "Stays loaded";
	return left > 0 ? `Loaded, for ${seconds(Math.ceil(left))}` : "Loaded";
}

/** View of the models in `section`; `onchange()` is called when models came or went. */
export class Models {
	#models = [];
	#loaded = new Map();
	#busy = new Map();
	#filter = "";
	#stale = false;
	#timer = 0;
	#generate = new Streams("generate");
	#list = h("ul.model-list", { "aria-label": "Installed models" });
	#problem = new Problem();
	#total = h("p.summary");
	#search = h("input.field", { type: "search", placeholder: "Filter", "aria-label": "Filter the models", hidden: true });
	#pulls;

	constructor(section, onchange) {
		this.onchange = onchange;
		this.#pulls = new Pulls(() => this.#changed());
		this.#search.addEventListener("input", () => {
			this.#filter = this.#search.value.trim().toLowerCase();
			this.#render();
		});
		section.append(
			h("div.sheet",
				h("div.sheet-head", h("div", h("h1", "Models"), this.#total), this.#search),
				this.#pulls.element,
				this.#problem.element,
				this.#list),
		);
	}

	async show() {
		// Not while a button is pressed, or gets the focus back from a dialog.
		this.#timer = setInterval(() => document.querySelector("dialog[open], ul:active") || document.hidden || this.refresh(), REFRESH);
		await this.refresh();
	}

	hide() {
		clearInterval(this.#timer);
	}

	/** Read the installed and the loaded models again. */
	async refresh() {
		try {
			const [{ models }, { models: loaded }] = await Promise.all([getJSON("tags"), getJSON("ps")]);
			this.#models = models;
			this.#loaded = new Map(loaded.map((one) => [one.name, one]));
			if (this.#stale) this.#problem.show();
			this.#stale = false;
		} catch (error) {
			this.#problem.show(error.message);
			this.#stale = true;
		}
		this.#render();
	}

	async #changed() {
		await this.refresh();
		this.onchange();
	}

	/** Do something about a model, and show it as busy meanwhile. `work` gets a function that shows its progress. */
	async #work(name, text, work) {
		const show = (phase, share = null) => {
			this.#busy.set(name, { phase, share });
			this.#render();
		};
		show(text);
		this.#problem.show();
		let problem = "";
		try {
			await work(show);
		} catch (error) {
			problem = error.message;
		}
		this.#busy.delete(name);
		await this.#changed();
		if (problem !== "") this.#problem.show(problem);
		else announce(`${text}: done`);
	}

	#load({ name, capabilities }) {
		return this.#work(name, "Loading", async (show) => {
			// A model that only embeds is loaded by an embedding of nothing.
			if (onlyEmbeds(capabilities)) await request("POST", "embed", { model: name, input: [] });
			else await this.#generate.stream({ model: name, progress: true }, (record) => show(...(phaseOf(record) ?? ["Loading"])));
		});
	}

	#unload({ name, capabilities }) {
		const [path, body] = onlyEmbeds(capabilities) ? ["embed", { input: [] }] : ["generate", { stream: false }];
		return this.#work(name, "Unloading", () => request("POST", path, { model: name, keep_alive: 0, ...body }));
	}

	async #copy({ name }) {
		const destination = await prompt(`Copy ${shortName(name)}`, "Name of the copy", "Copy", { value: `${shortName(name).split(":")[0]}-copy` }, "The copy shares the files of the original.");
		if (destination !== null) await this.#work(name, "Copying", () => request("POST", "copy", { source: name, destination }));
	}

	async #remove({ name, size }) {
		const text = `Its files, up to ${bytes(size)}, are removed unless another model has them too.`;
		if (await confirm(`Delete ${shortName(name)}?`, text, "Delete")) {
			await this.#work(name, "Deleting", () => request("DELETE", "delete", { model: name }));
		}
	}

	#render() {
		const shown = this.#models.filter(({ name }) => name.toLowerCase().includes(this.#filter));
		const size = this.#models.reduce((sum, one) => sum + one.size, 0);
		this.#search.hidden = this.#models.length < MANY;
		this.#total.textContent = this.#models.length === 0 ? "" : `${this.#models.length} installed, ${bytes(size)}; ${this.#loaded.size} in memory`;
		const focused = document.activeElement?.dataset?.control;
		const rows = shown.map((model) => this.#row(model));
		this.#list.replaceChildren(...(rows.length > 0 ? rows : [this.#empty()]));
		if (focused !== undefined) this.#list.querySelector(`[data-control="${CSS.escape(focused)}"]`)?.focus();
	}

	#empty() {
		const text = this.#models.length > 0 ? "No model has this name." : "No model is installed yet. Type a name above, such as qwen3:4b, and install it.";
		return h("li.nothing", text);
	}

	#row(model) {
		const { name, size, details, capabilities = [], remote_host: host } = model;
		const loaded = this.#loaded.get(name);
		const busy = this.#busy.get(name);
		const control = (what) => ({ "data-control": `${what} ${name}`, disabled: busy !== undefined });
		const facts = [details?.parameter_size, details?.quantization_level, host ? `on ${host}` : bytes(size)].filter(Boolean);
		const marks = capabilities.filter((one) => one !== "completion");
		let state = null;
		if (busy) state = h("span.model-state.busy", h("span.pulse"), busy.phase, busy.share !== null && h("progress", { max: "1", value: String(busy.share), "aria-label": busy.phase }));
		else if (loaded) state = h("span.model-state.loaded", h("span.dot"), `${remaining(loaded.expires_at)} · ${bytes(loaded.size)}`);
		const label = shortName(name);
		return h("li.model",
			h("div.model-text",
				h("button.model-name", { type: "button", onclick: () => openDetails(model, loaded), ...control("show") }, visible(label)),
				h("p.facts", facts.join(" · "), marks.map((one) => h("span.mark", visible(one)))),
				state),
			h("div.model-actions",
				loaded
					? button("Unload", () => this.#unload(model), "", { "aria-label": `Unload ${label}`, ...control("load") })
					: !host && button("Load", () => this.#load(model), "", { "aria-label": `Load ${label}`, ...control("load") }),
				iconButton("copy", `Copy ${label}`, () => this.#copy(model), control("copy")),
				iconButton("trash", `Delete ${label}`, () => this.#remove(model), control("delete"))),
		);
	}
}
